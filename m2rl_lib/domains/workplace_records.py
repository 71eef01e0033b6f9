"""The workplace's tools on its visits, plots, tasks and customers, by their published names; so is what they return."""

import re
from collections import defaultdict

from m2rl_lib.domains.workplace_state import State, page_of, within, without_numbers

EMAIL = re.compile(r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$")
TASK_CHOICES = {
    "list_name": ("List", ("Backlog", "In Progress", "In Review", "Completed")),
    "board": ("Board", ("Back end", "Front end", "Design")),
}
CUSTOMER_CHOICES = {
    "status": ("Status", ("Qualified", "Won", "Lost", "Lead", "Proposal")),
    "product_interest": ("Product interest", ("Software", "Hardware", "Services", "Consulting", "Training")),
}
CUSTOMER_FIELDS = (
    *("customer_name", "assigned_to_email", "customer_email", "customer_phone", "last_contact_date", "product_interest"),
    *("status", "notes", "follow_up_by"),
)
CUSTOMER_TEXTS = ("customer_name", "customer_email", "product_interest", "status", "assigned_to_email")
CUSTOMER_DATES = ("last_contact_date", "follow_up_by")
VALUES = ("total_visits", "session_duration_seconds", "user_engaged", "visits_direct", "visits_referral")
VALUES += ("visits_search_engine", "visits_social_media")


def _choice_error(choices: dict, field: str, value: object) -> str | None:
    noun, allowed = choices.get(field, (None, (value,)))
    return None if value in allowed else f"{noun} not valid. Please choose from: {', '.join(map(repr, allowed))}"


def _refuse_unknown(given: dict, known: set | tuple) -> None:
    if unknown := sorted(given.keys() - set(known)):
        raise TypeError(f"unexpected arguments {', '.join(unknown)}")


def analytics_get_visitor_information_by_id(s: State, visitor_id=None) -> object:
    if not visitor_id:
        return "Visitor ID not provided."
    found = without_numbers([row for row in s.visits if row["visitor_id"] == visitor_id])
    return [row | {"user_engaged": row["user_engaged"] == "True"} for row in found] or "Visitor not found."


def analytics_create_plot(s: State, time_min=None, time_max=None, value_to_plot=None, plot_type=None) -> str:
    if not time_min:
        return "Start date not provided."
    if not time_max:
        return "End date not provided."
    if value_to_plot not in VALUES:
        return f"Value to plot must be one of {', '.join(map(repr, VALUES))}"
    if plot_type not in ("bar", "line", "scatter", "histogram"):
        return "Plot type must be one of 'bar', 'line', 'scatter', or 'histogram'"
    path = f"plots/{time_min}_{time_max}_{value_to_plot}_{plot_type}.png"
    s.plots.add({"file_path": path})
    return path


def _by_day(s: State, time_min, time_max, value, total=sum) -> dict:
    """`total` of `value(row)` of the visits within the dates, by day in order."""
    days = defaultdict(list)
    for row in s.visits:
        day = row["date_of_visit"]
        if (not time_min or day >= time_min) and (not time_max or day <= time_max):
            days[day].append(value(row))
    return {day: total(values) for day, values in sorted(days.items())}


def analytics_total_visits_count(s: State, time_min=None, time_max=None) -> dict:
    return _by_day(s, time_min, time_max, lambda row: 1)


def analytics_engaged_users_count(s: State, time_min=None, time_max=None) -> dict:
    return _by_day(s, time_min, time_max, lambda row: row["user_engaged"] == "True")


def analytics_traffic_source_count(s: State, time_min=None, time_max=None, traffic_source=None) -> dict:
    return _by_day(s, time_min, time_max, lambda row: not traffic_source or row["traffic_source"] == traffic_source)


def analytics_get_average_session_duration(s: State, time_min=None, time_max=None) -> dict:
    return _by_day(s, time_min, time_max, lambda row: float(row["session_duration_seconds"]), lambda all_: sum(all_) / len(all_))


def project_management_get_task_information_by_id(s: State, task_id=None, field=None) -> object:
    return s.tasks.get_field(task_id, field)


def project_management_search_tasks(
    s: State, task_name=None, assigned_to_email=None, list_name=None, due_date=None, board=None
) -> object:
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
    if field == "assigned_to_email" and not any(row["assigned_to_email"].lower() == value.lower() for row in s.tasks):
        return "Assignee email not valid. Please choose from the list of team members."
    error = _choice_error(TASK_CHOICES, field, value)
    return error and f"{error}."


def project_management_create_task(
    s: State, task_name=None, assigned_to_email=None, list_name=None, due_date=None, board=None
) -> str:
    row = {"task_name": task_name, "assigned_to_email": assigned_to_email, "list_name": list_name}
    row |= {"due_date": due_date, "board": board}
    if not all(row.values()):
        return "Missing task details."
    for field, value in row.items():
        if error := _task_error(s, field, value):
            return error
    task_id = s.tasks.next_id()
    s.tasks.add({"task_id": task_id, **row, "assigned_to_email": assigned_to_email.lower()})
    return task_id


def project_management_delete_task(s: State, task_id=None) -> str:
    return s.tasks.delete(task_id)


def project_management_update_task(s: State, task_id=None, field=None, new_value=None) -> str:
    return s.tasks.update(task_id, field, new_value, lambda: _task_error(s, field, new_value))


def customer_relationship_manager_search_customers(s: State, page=1, page_size=5, **asked) -> object:
    """`asked`: texts, and the least and the greatest of a date, such as `follow_up_by_min`."""
    _refuse_unknown(asked, {*CUSTOMER_TEXTS, *(f"{date}_{end}" for date in CUSTOMER_DATES for end in ("min", "max"))})
    if not any(asked.values()):
        return "No search parameters provided. Please provide at least one parameter."
    texts = {key: asked[key] for key in CUSTOMER_TEXTS if asked.get(key)}
    rows = [row for row in s.customers if all(within(text, row[key]) for key, text in texts.items())]
    for key in CUSTOMER_DATES:  # compared as texts: a day's own times come after `high`, as published
        low, high = asked.get(f"{key}_min"), asked.get(f"{key}_max")
        rows = [row for row in rows if not low or (row[key] is not None and row[key] >= low)]
        rows = [row for row in rows if not high or (row[key] is not None and row[key] <= high)]
    return page_of(rows, "customers", page, page_size)


def customer_relationship_manager_update_customer(s: State, customer_id=None, field=None, new_value=None) -> str:
    if customer_id and new_value and field in ("customer_email", "assigned_to_email"):
        new_value = new_value.lower()
    no_field = f"Field not valid. Please choose from: {', '.join(map(repr, CUSTOMER_FIELDS))}"
    return s.customers.update(customer_id, field, new_value, lambda: _choice_error(CUSTOMER_CHOICES, field, new_value), no_field)


def customer_relationship_manager_add_customer(s: State, **given) -> str:
    _refuse_unknown(given, CUSTOMER_FIELDS)
    row = dict.fromkeys(CUSTOMER_FIELDS) | {"notes": ""} | given
    if not all((row["customer_name"], row["assigned_to_email"], row["status"])):
        return "Please provide all required fields: customer_name, assigned_to_email, status."
    row["customer_id"] = s.customers.next_id()
    for key in ("assigned_to_email", "customer_email"):
        row[key] = row[key].lower() if row[key] else row[key]
    s.customers.add(row)
    return row["customer_id"]


def customer_relationship_manager_delete_customer(s: State, customer_id=None) -> str:
    return s.customers.delete(customer_id)
