"""The tables of NeMo Gym's workplace during one replay, and what its tools have in common."""

NUMBER = "#"  # a row's number in its table: the published comparison counts it


class State:
    """The tables of one replay. Rows are shared with the source and replaced, never changed in place."""

    def __init__(self, tables: dict[str, list[dict]]):
        self.visits = tables["analytics_data.csv"]
        self.addresses = tables["email_addresses.csv"]
        self.plots: list[dict] = []
        self.events = list(tables["calendar_events.csv"])
        self.emails = list(tables["emails.csv"])
        self.tasks = list(tables["project_tasks.csv"])
        self.customers = list(tables["customer_relationship_manager_data.csv"])

    def compared(self) -> dict[str, list[dict]]:
        return {name: getattr(self, name) for name in ("events", "emails", "plots", "tasks", "customers")}


def without_numbers(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != NUMBER} for row in rows]


def add_row(rows: list[dict], row: dict, renumber: bool = True) -> None:
    """Append a row, its columns in the table's order. The rows are numbered anew, but for the calendar, where a new one is 0."""
    order = rows[0] if rows else row
    rows.append({NUMBER: 0, **{key: row[key] for key in order if key != NUMBER}})
    if renumber:
        rows[:] = [old if old[NUMBER] == i else old | {NUMBER: i} for i, old in enumerate(rows)]


def next_id(rows: list[dict], key: str) -> int:
    return int(max(row[key] for row in rows)) + 1


def has_row(rows: list[dict], key: str, value: object) -> bool:
    return any(row[key] == value for row in rows)


def delete_row(rows: list[dict], key: str, value: object, noun: str) -> str:
    if not value:
        return f"{noun} ID not provided."
    if not has_row(rows, key, value):
        return f"{noun} not found."
    rows[:] = [row for row in rows if row[key] != value]
    return f"{noun} deleted successfully."


def set_field(rows: list[dict], key: str, value: object, field: str, new: object) -> None:
    rows[:] = [row | {field: new} if row[key] == value else row for row in rows]


def get_field(rows: list[dict], key: str, value: object, field: str, noun: str, no_field: str) -> object:
    found = next((row for row in rows if row[key] == value), None)
    if found is None:
        return f"{noun} not found."
    return {field: found[field]} if field in found and field != NUMBER else no_field


def within(text: str, cell: str | None) -> bool:
    return cell is not None and text.lower() in cell.lower()


def page_of(rows: list[dict], noun: str, page: int, page_size: int) -> object:
    if not rows:
        return f"No {noun} found."
    pages = (len(rows) + page_size - 1) // page_size
    page = max(1, min(page, pages))
    start = (page - 1) * page_size
    shown = without_numbers(rows[start : min(start + page_size, len(rows))])
    return {noun: shown, "pagination": {f"total_{noun}": len(rows), "page": page, "page_size": page_size, "total_pages": pages}}
