"""The 27 tools of NeMo Gym's workplace by the names that rows list them under."""

from m2rl_lib.domains import workplace_mail as mail
from m2rl_lib.domains import workplace_records as records

_PARTS = {
    "email": (
        mail,
        {
            "get_email_information_by_id": "get_email",
            **{name: name for name in ("search_emails", "send_email", "delete_email", "forward_email", "reply_email")},
        },
    ),
    "calendar": (
        mail,
        {
            "get_event_information_by_id": "get_event",
            **{name: name for name in ("search_events", "create_event", "delete_event", "update_event")},
        },
    ),
    "analytics": (
        records,
        {
            "get_visitor_information_by_id": "get_visitor",
            "create_plot": "create_plot",
            "total_visits_count": "total_visits",
            "engaged_users_count": "engaged_users",
            "traffic_source_count": "traffic_sources",
            "get_average_session_duration": "average_duration",
        },
    ),
    "project_management": (
        records,
        {
            "get_task_information_by_id": "get_task",
            **{name: name for name in ("search_tasks", "create_task", "delete_task", "update_task")},
        },
    ),
    "customer_relationship_manager": (
        records,
        {name: name for name in ("search_customers", "update_customer", "add_customer", "delete_customer")},
    ),
}
TOOLS = {"company_directory_find_email_address": mail.find_email_address} | {
    f"{part}_{name}": getattr(module, function) for part, (module, names) in _PARTS.items() for name, function in names.items()
}
