"""The workplace's tools on its address book, email and calendar; what they return is as published."""

import pandas as pd

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
)

NOW = "2023-11-30 23:59:00"
EVENT_FIELDS = ("event_id", "event_name", "participant_email", "event_start", "duration")


def find_email_address(s: State, name: str = "") -> object:
    if name == "":
        return "Name not provided."
    return [row["email_address"] for row in s.addresses if within(name, row["email_address"])]


# --- email ------------------------------------------------------------------------------------------------


def get_email(s: State, email_id=None, field=None) -> object:
    if not email_id:
        return "Email ID not provided."
    if not field:
        return "Field not provided."
    fields = ", ".join(key for key in s.emails[0] if key != NUMBER)
    return get_field(s.emails, "email_id", email_id, field, "Email", f"Field '{field}' not found. Available fields: {fields}")


def search_emails(s: State, query="", date_min=None, date_max=None, page=1, page_size=5) -> object:
    words = query.lower().split()
    found = []
    for row in s.emails:
        text = f"{row['subject']} {row['body']} {row['sender/recipient']}".lower()
        if all(word in text for word in words):
            found.append((pd.Timestamp(row["sent_datetime"]), row))
    found.sort(key=lambda pair: pair[0], reverse=True)
    if date_min:
        found = [pair for pair in found if pair[0].date() >= pd.Timestamp(date_min).date()]
    if date_max:
        found = [pair for pair in found if pair[0].date() <= pd.Timestamp(date_max).date()]
    return page_of([row for _, row in found], "emails", page, page_size)


def send_email(s: State, recipient=None, subject=None, body=None) -> str:
    if not recipient or not subject or not body:
        return "Recipient, subject, or body not provided."
    if "@" not in recipient or "." not in recipient:
        return "Invalid recipient email address."
    row = {"email_id": str(next_id(s.emails, "email_id")) if s.emails else "1", "inbox/outbox": "outbox"}
    row |= {"sender/recipient": recipient.lower(), "subject": subject, "sent_datetime": NOW, "body": body}
    add_row(s.emails, row)
    return "Email sent successfully."


def delete_email(s: State, email_id=None) -> str:
    return delete_row(s.emails, "email_id", email_id, "Email")


def forward_email(s: State, email_id=None, recipient=None) -> str:
    if not email_id or not recipient:
        return "Email ID or recipient not provided."
    if "@" not in recipient or "." not in recipient:
        return "Invalid recipient email address."
    found = next((row for row in s.emails if row["email_id"] == email_id), None)
    if found is None:
        return "Email not found."
    send_email(s, recipient, f"FW: {found['subject']}", found["body"])
    return "Email forwarded successfully."


def reply_email(s: State, email_id=None, body=None) -> str:
    if not email_id or not body:
        return "Email ID or body not provided."
    found = next((row for row in s.emails if row["email_id"] == email_id), None)
    if found is None:
        return "Email not found."
    result = send_email(s, found["sender/recipient"], f"RE: {found['subject']}", body)
    return result if "Invalid" in result else "Email replied successfully."


# --- calendar ---------------------------------------------------------------------------------------------


def _no_time(value: object) -> bool:
    try:
        pd.Timestamp(value)
    except ValueError:
        return True
    return False


def _event_error(field: str, value: object) -> str | None:
    if field == "event_start" and _no_time(value):
        return "Invalid event_start format. Expected YYYY-MM-DD HH:MM:SS."
    if field == "duration":
        try:
            return None if int(value) > 0 else "Duration must be a positive number of minutes."
        except ValueError:
            return "Invalid duration format. Expected a number of minutes."
    return None


def _event_id_error(event_id: object) -> str | None:
    good = isinstance(event_id, str) and len(event_id) == 8 and event_id.isdigit()
    return None if good else "Invalid event ID format. Expected 8-digit ID."


def get_event(s: State, event_id=None, field=None) -> object:
    if not event_id:
        return "Event ID not provided."
    if not field:
        return "Field not provided."
    if error := _event_id_error(event_id):
        return error
    if field not in EVENT_FIELDS:
        return f"Invalid field. Available fields are: {', '.join(EVENT_FIELDS)}"
    return get_field(s.events, "event_id", event_id, field, "Event", "Field not found.")


def search_events(s: State, query="", time_min=None, time_max=None, page=1, page_size=5) -> object:
    for name, value in (("time_min", time_min), ("time_max", time_max)):
        if value and _no_time(value):
            return f"Invalid {name} format. Expected YYYY-MM-DD HH:MM:SS."
    found = [row for row in s.events if within(query, row["event_name"]) or within(query, row["participant_email"])]
    starts = [(pd.Timestamp(row["event_start"]), row) for row in found]
    if time_min:
        starts = [pair for pair in starts if pair[0] >= pd.Timestamp(time_min)]
    if time_max:
        starts = [pair for pair in starts if pair[0] <= pd.Timestamp(time_max)]
    starts.sort(key=lambda pair: pair[0], reverse=True)
    return page_of([row for _, row in starts], "events", page, page_size)


def create_event(s: State, event_name=None, participant_email=None, event_start=None, duration=None) -> str:
    nouns = {
        "Event name": event_name,
        "Participant email": participant_email,
        "Event start": event_start,
        "Event duration": duration,
    }
    for noun, value in nouns.items():
        if not value:
            return f"{noun} not provided."
    if error := _event_error("event_start", event_start) or _event_error("duration", duration):
        return error
    event_id = str(next_id(s.events, "event_id")).zfill(8)
    values = (event_id, event_name, participant_email.lower(), event_start, duration)
    add_row(s.events, dict(zip(EVENT_FIELDS, values)), renumber=False)
    return event_id


def delete_event(s: State, event_id=None) -> str:
    return (event_id and _event_id_error(event_id)) or delete_row(s.events, "event_id", event_id, "Event")


def update_event(s: State, event_id=None, field=None, new_value=None) -> str:
    if not event_id or not field or not new_value:
        return "Event ID, field, or new value not provided."
    if error := _event_id_error(event_id):
        return error
    if field not in EVENT_FIELDS[1:]:
        return f"Invalid field. Available fields are: {', '.join(EVENT_FIELDS[1:])}"
    if error := _event_error(field, new_value):
        return error
    if not has_row(s.events, "event_id", event_id):
        return "Event not found."
    set_field(s.events, "event_id", event_id, field, new_value.lower() if field == "participant_email" else new_value)
    return "Event updated successfully."
