"""The tables of NeMo Gym's workplace during one replay, and what its tools have in common."""

from collections.abc import Callable

NUMBER = "#"  # a row's number in its table: the published comparison counts it
ADDRESSES = ("participant_email", "assigned_to_email", "customer_email")  # kept in lower case


class Table(list):
    """The rows of one kind, found by `key`. They are shared with the source and replaced, never changed in place."""

    def __init__(self, rows: list[dict], key: str, noun: str):
        super().__init__(rows)
        self.key, self.noun = key, noun

    def find(self, value: object) -> dict | None:
        return next((row for row in self if row[self.key] == value), None)

    def next_id(self, digits: int = 8) -> str:
        return str(int(max(row[self.key] for row in self)) + 1).zfill(digits)

    def add(self, row: dict, renumber: bool = True) -> None:
        """Append a row, its columns in the table's order. All are numbered anew, but in the calendar, where a new one is 0."""
        order = self[0] if self else row
        self.append({NUMBER: 0, **{key: row[key] for key in order if key != NUMBER}})
        if renumber:
            self[:] = [old if old[NUMBER] == i else old | {NUMBER: i} for i, old in enumerate(self)]

    def delete(self, value: object) -> str:
        if not value:
            return f"{self.noun} ID not provided."
        if self.find(value) is None:
            return f"{self.noun} not found."
        self[:] = [row for row in self if row[self.key] != value]
        return f"{self.noun} deleted successfully."

    def get_field(self, value: object, field: str, no_field: str = "Field not found.") -> object:
        if not value:
            return f"{self.noun} ID not provided."
        if not field:
            return "Field not provided."
        found = self.find(value)
        if found is None:
            return f"{self.noun} not found."
        return {field: found[field]} if field in found and field != NUMBER else no_field

    def update(self, value: object, field: str, new: object, error_of: Callable, no_field: str = "Field not valid.") -> str:
        """Set a field of the rows with that key; `error_of()` says what is wrong with the new value, or None."""
        if not value or not field or not new:
            return f"{self.noun} ID, field, or new value not provided."
        if error := error_of():
            return error
        if self.find(value) is None:
            return f"{self.noun} not found."
        if field not in self[0] or field == NUMBER:
            return no_field
        new = new.lower() if field in ADDRESSES else new
        self[:] = [row | {field: new} if row[self.key] == value else row for row in self]
        return f"{self.noun} updated successfully."


class State:
    """The tables of one replay."""

    def __init__(self, tables: dict[str, list[dict]]):
        self.visits = tables["analytics_data.csv"]
        self.addresses = tables["email_addresses.csv"]
        self.plots = Table([], "file_path", "Plot")
        self.events = Table(tables["calendar_events.csv"], "event_id", "Event")
        self.emails = Table(tables["emails.csv"], "email_id", "Email")
        self.tasks = Table(tables["project_tasks.csv"], "task_id", "Task")
        self.customers = Table(tables["customer_relationship_manager_data.csv"], "customer_id", "Customer")


def without_numbers(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != NUMBER} for row in rows]


def within(text: str, cell: str | None) -> bool:
    return cell is not None and text.lower() in cell.lower()


def page_of(rows: list[dict], noun: str, page: int, page_size: int) -> object:
    if not rows:
        return f"No {noun} found."
    pages = (len(rows) + page_size - 1) // page_size
    page = max(1, min(page, pages))
    shown = without_numbers(rows[(page - 1) * page_size : page * page_size])
    return {noun: shown, "pagination": {f"total_{noun}": len(rows), "page": page, "page_size": page_size, "total_pages": pages}}
