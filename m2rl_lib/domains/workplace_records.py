"""The workplace's tools on its visits, plots, tasks and customers; what they return is as published."""

import re
from collections import defaultdict

from m2rl_lib.domains.workplace_state import (
    NUMBER,
    State,
    add_row,
    delete_row,
    get_field,
    has_row,
    next_id,
    page_of,
    set_field,
    within,
    without_numbers,
)

EMAIL = re.compile(r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$")
LISTS, BOARDS = ("Backlog", "In Progress", "In Review", "Completed"), ("Back end", "Front end", "Design")
STATUSES = ("Qualified", "Won", "Lost", "Lead", "Proposal")
PRODUCTS = ("Software", "Hardware", "Services", "Consulting", "Training")
CUSTOMER_FIELDS = tuple(
    [
        "customer_name",
        "assigned_to_email",
        "customer_email",
        "customer_phone",
        "last_contact_date",
        "product_interest",
        "status",
        "notes",
        "follow_up_by",
    ]
)
VALUES = ("total_visits", "session_duration_seconds", "user_engaged") + tuple(
    f"visits_{source}" for source in ("direct", "referral", "search_engine", "social_media")
)


# --- analytics --------------------------------------------------------------------------------------------


def get_visitor(s: State, visitor_id=None) -> object:
    if not visitor_id:
        return "Visitor ID not provided."
    found = without_numbers([row for row in s.visits if row["visitor_id"] == visitor_id])
    return [row | {"user_engaged": row["user_engaged"] == "True"} for row in found] or "Visitor not found."


def create_plot(s: State, time_min=None, time_max=None, value_to_plot=None, plot_type=None) -> str:
    if not time_min:
        return "Start date not provided."
    if not time_max:
        return "End date not provided."
    if value_to_plot not in VALUES:
        return f"Value to plot must be one of {', '.join(map(repr, VALUES))}"
    if plot_type not in ("bar", "line", "scatter", "histogram"):
        return "Plot type must be one of 'bar', 'line', 'scatter', or 'histogram'"
    path = f"plots/{time_min}_{time_max}_{value_to_plot}_{plot_type}.png"
    add_row(s.plots, {"file_path": path})
    return path


def _by_day(s: State, time_min, time_max, value) -> dict[str, list]:
    """`value(row)` of each visit within the dates, by day in order."""
    days = defaultdict(list)
    for row in s.visits:
        day = row["date_of_visit"]
        if (not time_min or day >= time_min) and (not time_max or day <= time_max):
            days[day].append(value(row))
    return dict(sorted(days.items()))


def total_visits(s: State, time_min=None, time_max=None) -> dict:
    return {day: len(rows) for day, rows in _by_day(s, time_min, time_max, lambda row: 1).items()}


def engaged_users(s: State, time_min=None, time_max=None) -> dict:
    return {day: sum(rows) for day, rows in _by_day(s, time_min, time_max, lambda row: row["user_engaged"] == "True").items()}


def traffic_sources(s: State, time_min=None, time_max=None, traffic_source=None) -> dict:
    days = _by_day(s, time_min, time_max, lambda row: not traffic_source or row["traffic_source"] == traffic_source)
    return {day: sum(rows) for day, rows in days.items()}


def average_duration(s: State, time_min=None, time_max=None) -> dict:
    days = _by_day(s, time_min, time_max, lambda row: float(row["session_duration_seconds"]))
    return {day: sum(rows) / len(rows) for day, rows in days.items()}


# --- tasks ------------------------------------------------------------------------------------------------


def get_task(s: State, task_id=None, field=None) -> object:
    if not task_id:
        return "Task ID not provided."
    if not field:
        return "Field not provided."
    return get_field(s.tasks, "task_id", task_id, field, "Task", "Field not found.")


def search_tasks(s: State, task_name=None, assigned_to_email=None, list_name=None, due_date=None, board=None) -> object:
    asked = {"task_name": task_name, "list_name": list_name, "due_date": due_date, "board": board}
    if not any((*asked.values(), assigned_to_email)):
        return "No search parameters provided."
    if assigned_to_email and not EMAIL.match(assigned_to_email):
        return "Invalid email format for assigned_to_email."
    rows = [row for row in s.tasks if all(within(value, row[key]) for key, value in asked.items() if value)]
    if assigned_to_email:
        rows = [row for row in rows if row["assigned_to_email"].lower() == assigned_to_email.lower()]
    return without_numbers(rows)


def _task_error(s: State, field: str, value: object) -> str | None:
    """What is wrong with a task's new value, case folded for the address."""
    if field == "assigned_to_email" and not any(row["assigned_to_email"].lower() == value.lower() for row in s.tasks):
        return "Assignee email not valid. Please choose from the list of team members."
    for noun, name, allowed in (("List", "list_name", LISTS), ("Board", "board", BOARDS)):
        if field == name and value not in allowed:
            return f"{noun} not valid. Please choose from: {', '.join(map(repr, allowed))}."
    return None


def create_task(s: State, task_name=None, assigned_to_email=None, list_name=None, due_date=None, board=None) -> str:
    row = {"task_name": task_name, "assigned_to_email": assigned_to_email, "list_name": list_name}
    row |= {"due_date": due_date, "board": board}
    if not all(row.values()):
        return "Missing task details."
    for field, value in row.items():
        if error := _task_error(s, field, value):
            return error
    task_id = str(next_id(s.tasks, "task_id")).zfill(8)
    add_row(s.tasks, {"task_id": task_id, **row, "assigned_to_email": assigned_to_email.lower()})
    return task_id


def delete_task(s: State, task_id=None) -> str:
    return delete_row(s.tasks, "task_id", task_id, "Task")


def update_task(s: State, task_id=None, field=None, new_value=None) -> str:
    if not task_id or not field or not new_value:
        return "Task ID, field, or new value not provided."
    if error := _task_error(s, field, new_value):
        return error
    if not has_row(s.tasks, "task_id", task_id):
        return "Task not found."
    if field not in s.tasks[0] or field == NUMBER:
        return "Field not valid."
    set_field(s.tasks, "task_id", task_id, field, new_value.lower() if field == "assigned_to_email" else new_value)
    return "Task updated successfully."


# --- customers ---------------------------------------------------------------------------------------------


def search_customers(
    s: State,
    customer_name=None,
    customer_email=None,
    product_interest=None,
    status=None,
    assigned_to_email=None,
    last_contact_date_min=None,
    last_contact_date_max=None,
    follow_up_by_min=None,
    follow_up_by_max=None,
    page=1,
    page_size=5,
) -> object:
    texts = {"customer_name": customer_name, "customer_email": customer_email, "product_interest": product_interest}
    texts |= {"status": status, "assigned_to_email": assigned_to_email}
    dates = {
        "last_contact_date": (last_contact_date_min, last_contact_date_max),
        "follow_up_by": (follow_up_by_min, follow_up_by_max),
    }
    if not any((*texts.values(), *dates["last_contact_date"], *dates["follow_up_by"])):
        return "No search parameters provided. Please provide at least one parameter."
    rows = [row for row in s.customers if all(within(value, row[key]) for key, value in texts.items() if value)]
    for key, (low, high) in dates.items():  # compared as texts: a day's own times come after `high`, as published
        rows = [row for row in rows if not low or (row[key] is not None and row[key] >= low)]
        rows = [row for row in rows if not high or (row[key] is not None and row[key] <= high)]
    return page_of(rows, "customers", page, page_size)


def update_customer(s: State, customer_id=None, field=None, new_value=None) -> str:
    if not customer_id or not field or not new_value:
        return "Customer ID, field, or new value not provided."
    for noun, name, allowed in (("Status", "status", STATUSES), ("Product interest", "product_interest", PRODUCTS)):
        if field == name and new_value not in allowed:
            return f"{noun} not valid. Please choose from: {', '.join(map(repr, allowed))}"
    if field in ("customer_email", "assigned_to_email"):
        new_value = new_value.lower()
    if not has_row(s.customers, "customer_id", customer_id):
        return "Customer not found."
    if field not in s.customers[0] or field == NUMBER:
        return f"Field not valid. Please choose from: {', '.join(map(repr, CUSTOMER_FIELDS))}"
    set_field(s.customers, "customer_id", customer_id, field, new_value)
    return "Customer updated successfully."


def add_customer(
    s: State,
    customer_name=None,
    assigned_to_email=None,
    status=None,
    customer_email=None,
    customer_phone=None,
    last_contact_date=None,
    product_interest=None,
    notes="",
    follow_up_by=None,
) -> str:
    if not all((customer_name, assigned_to_email, status)):
        return "Please provide all required fields: customer_name, assigned_to_email, status."
    new_id = str(next_id(s.customers, "customer_id")).zfill(8)
    email = customer_email.lower() if customer_email else customer_email
    values = (customer_name, assigned_to_email.lower(), email, customer_phone)
    values += (last_contact_date, product_interest, status, notes, follow_up_by)
    add_row(s.customers, {"customer_id": new_id, **dict(zip(CUSTOMER_FIELDS, values))})
    return new_id


def delete_customer(s: State, customer_id=None) -> str:
    return delete_row(s.customers, "customer_id", customer_id, "Customer")
