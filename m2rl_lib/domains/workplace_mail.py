"""The workplace's tools on its address book, email and calendar, by their published names; so is what they return."""

from collections.abc import Callable

import pandas as pd

from m2rl_lib.domains.workplace_state import NUMBER, State, page_of, within

NOW = "2023-11-30 23:59:00"
EVENT_FIELDS = ("event_id", "event_name", "participant_email", "event_start", "duration")


def company_directory_find_email_address(s: State, name: str = "") -> object:
    if name == "":
        return "Name not provided."
    return [row["email_address"] for row in s.addresses if within(name, row["email_address"])]


def _latest_first(rows: list[dict], column: str, low, high, of: Callable = lambda time: time) -> list[dict]:
    """The rows whose time (`of` it) is from `low` to `high`, where these are given."""
    pairs = sorted(((pd.Timestamp(row[column]), row) for row in rows), key=lambda pair: pair[0], reverse=True)
    pairs = [pair for pair in pairs if not low or of(pair[0]) >= of(pd.Timestamp(low))]
    return [row for time, row in pairs if not high or of(time) <= of(pd.Timestamp(high))]


def email_get_email_information_by_id(s: State, email_id=None, field=None) -> object:
    fields = ", ".join(key for key in s.emails[0] if key != NUMBER) if email_id and field else ""
    return s.emails.get_field(email_id, field, f"Field '{field}' not found. Available fields: {fields}")


def email_search_emails(s: State, query="", date_min=None, date_max=None, page=1, page_size=5) -> object:
    words = query.lower().split()
    texts = [f"{row['subject']} {row['body']} {row['sender/recipient']}".lower() for row in s.emails]
    found = [row for row, text in zip(s.emails, texts) if all(word in text for word in words)]
    return page_of(_latest_first(found, "sent_datetime", date_min, date_max, pd.Timestamp.date), "emails", page, page_size)


def email_send_email(s: State, recipient=None, subject=None, body=None) -> str:
    if not recipient or not subject or not body:
        return "Recipient, subject, or body not provided."
    if "@" not in recipient or "." not in recipient:
        return "Invalid recipient email address."
    row = {"email_id": s.emails.next_id(0) if s.emails else "1", "inbox/outbox": "outbox"}
    row |= {"sender/recipient": recipient.lower(), "subject": subject, "sent_datetime": NOW, "body": body}
    s.emails.add(row)
    return "Email sent successfully."


def email_delete_email(s: State, email_id=None) -> str:
    return s.emails.delete(email_id)


def email_forward_email(s: State, email_id=None, recipient=None) -> str:
    if not email_id or not recipient:
        return "Email ID or recipient not provided."
    if "@" not in recipient or "." not in recipient:
        return "Invalid recipient email address."
    found = s.emails.find(email_id)
    if found is None:
        return "Email not found."
    email_send_email(s, recipient, f"FW: {found['subject']}", found["body"])
    return "Email forwarded successfully."


def email_reply_email(s: State, email_id=None, body=None) -> str:
    if not email_id or not body:
        return "Email ID or body not provided."
    found = s.emails.find(email_id)
    if found is None:
        return "Email not found."
    result = email_send_email(s, found["sender/recipient"], f"RE: {found['subject']}", body)
    return result if "Invalid" in result else "Email replied successfully."


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


def _event_id_error(event_id: object, field: str | None = None, allowed: tuple = ()) -> str | None:
    if not (isinstance(event_id, str) and len(event_id) == 8 and event_id.isdigit()):
        return "Invalid event ID format. Expected 8-digit ID."
    return f"Invalid field. Available fields are: {', '.join(allowed)}" if allowed and field not in allowed else None


def calendar_get_event_information_by_id(s: State, event_id=None, field=None) -> object:
    error = _event_id_error(event_id, field, EVENT_FIELDS) if event_id and field else None
    return error or s.events.get_field(event_id, field)


def calendar_search_events(s: State, query="", time_min=None, time_max=None, page=1, page_size=5) -> object:
    for name, value in (("time_min", time_min), ("time_max", time_max)):
        if value and _no_time(value):
            return f"Invalid {name} format. Expected YYYY-MM-DD HH:MM:SS."
    found = [row for row in s.events if within(query, row["event_name"]) or within(query, row["participant_email"])]
    return page_of(_latest_first(found, "event_start", time_min, time_max), "events", page, page_size)


def calendar_create_event(s: State, event_name=None, participant_email=None, event_start=None, duration=None) -> str:
    values = (event_name, participant_email, event_start, duration)
    for noun, value in zip(("Event name", "Participant email", "Event start", "Event duration"), values):
        if not value:
            return f"{noun} not provided."
    if error := _event_error("event_start", event_start) or _event_error("duration", duration):
        return error
    values = (s.events.next_id(), event_name, participant_email.lower(), event_start, duration)
    s.events.add(dict(zip(EVENT_FIELDS, values)), renumber=False)
    return values[0]


def calendar_delete_event(s: State, event_id=None) -> str:
    return (event_id and _event_id_error(event_id)) or s.events.delete(event_id)


def calendar_update_event(s: State, event_id=None, field=None, new_value=None) -> str:
    def error() -> str | None:
        return _event_id_error(event_id, field, EVENT_FIELDS[1:]) or _event_error(field, new_value)

    return s.events.update(event_id, field, new_value, error)
