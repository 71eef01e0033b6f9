"""The 27 tools of NeMo Gym's workplace by the names that rows list them under."""

from m2rl_lib.domains import workplace_mail, workplace_records

SETS = ("company_directory_", "email_", "calendar_", "analytics_", "project_management_", "customer_relationship_manager_")
TOOLS = {
    name: function
    for module in (workplace_mail, workplace_records)
    for name, function in vars(module).items()
    if name.startswith(SETS)
}
