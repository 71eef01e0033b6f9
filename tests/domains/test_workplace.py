"""NeMo Gym's workplace: tools, rewards and sources, on a small workplace of our own and on the published rows."""

import hashlib
import json

import pytest

from m2rl_lib.config import locations
from m2rl_lib.data import rl_blend
from m2rl_lib.domains import agent, chat, workplace
from m2rl_lib.domains.problems import Unusable

FILES = {
    "analytics_data.csv": "date_of_visit,visitor_id,page_views,session_duration_seconds,traffic_source,user_engaged\n"
    "2023-11-01,0001,3,10,direct,True\n2023-11-01,0002,1,5,referral,False\n2023-10-30,0003,2,4,direct,True\n",
    "calendar_events.csv": "event_id,event_name,participant_email,event_start,duration\n"
    "00000001,Demo,ann@x.com,2023-12-01 09:00:00,30\n00000002,Call (C++),bob@x.com,2023-12-02 10:00:00,60\n",
    "customer_relationship_manager_data.csv": "customer_id,assigned_to_email,customer_name,customer_email,customer_phone,"
    "last_contact_date,product_interest,status,follow_up_by,notes\n"
    "00000001,ann@x.com,Ida Low,ida@low,,2023-11-09 23:59:00,Software,Lead,2023-12-01 23:59:00,Met.\n",
    "email_addresses.csv": "ann@x.com\nbob@x.com\n",
    "emails.csv": "email_id,inbox/outbox,sender/recipient,subject,sent_datetime,body\n"
    '00000001,inbox,ann@x.com,Budget,2023-11-01 09:00:00,"Hi,\\n\\nall good"\n',
    "project_tasks.csv": "task_id,task_name,assigned_to_email,list_name,due_date,board\n"
    "00000001,Fix login,ann@x.com,Backlog,2023-12-01,Back end\n",
}


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A folder with our own small workplace, which counts as the published one."""
    folder = tmp_path / "sources" / "nemo-gym" / "csv_data"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(workplace, "PUBLISHED", {n: hashlib.sha256(text.encode()).hexdigest() for n, text in FILES.items()})
    monkeypatch.setattr(locations, "RUNS", tmp_path / "runs")
    workplace._tables.cache_clear()
    yield tmp_path / "sources"
    workplace._tables.cache_clear()


@pytest.fixture
def place(tables):
    return workplace.Workplace(workplace.install(tables))


def use(place, name, /, **arguments):
    return json.loads(place.call(json.dumps({"name": name, "arguments": arguments})))["output"]


def gold(name, /, **arguments):
    return {"name": name, "arguments": json.dumps(arguments)}


def raw_row(calls, text="Do it."):
    tools = [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in workplace.TOOLS]
    asked = {"input": [{"role": "user", "content": text}], "tools": tools}
    kept = {"category": "workplace_assistant_email", "environment_name": "workplace_assistant", "id": 1}
    return {"dataset": rl_blend.PREFIX + "workbench", "responses_create_params": asked, "ground_truth": calls, **kept}


def written(*calls):
    return "".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>{chat.END}" for call in calls)


CALLS = [
    ("company_directory_find_email_address", {"name": "ANN"}, ["ann@x.com"]),
    ("email_get_email_information_by_id", {"email_id": "00000001", "field": "subject"}, {"subject": "Budget"}),
    ("email_search_emails", {"query": "good ann", "date_max": "2023-10-01"}, "No emails found."),
    ("email_send_email", {"recipient": "Bob@x.com", "subject": "s", "body": "b"}, "Email sent successfully."),
    ("email_forward_email", {"email_id": "00000001", "recipient": "nobody"}, "Invalid recipient email address."),
    ("email_reply_email", {"email_id": "00000009", "body": "b"}, "Email not found."),
    ("email_delete_email", {"email_id": "00000001"}, "Email deleted successfully."),
    ("calendar_get_event_information_by_id", {"event_id": "1", "field": "duration"}, "Invalid event ID format. Expected 8-digit ID."),
    ("calendar_create_event", {"event_name": "e", "participant_email": "A@x.com", "event_start": "2023-12-03", "duration": "30"}, "00000003"),
    ("calendar_update_event", {"event_id": "00000001", "field": "duration", "new_value": "-1"}, "Duration must be a positive number of minutes."),
    ("calendar_delete_event", {"event_id": "00000001"}, "Event deleted successfully."),
    ("analytics_total_visits_count", {"time_min": "2023-11-01"}, {"2023-11-01": 2}),
    ("analytics_engaged_users_count", {}, {"2023-10-30": 1, "2023-11-01": 1}),
    ("analytics_traffic_source_count", {"traffic_source": "direct"}, {"2023-10-30": 1, "2023-11-01": 1}),
    ("analytics_get_average_session_duration", {}, {"2023-10-30": 4.0, "2023-11-01": 7.5}),
    ("project_management_get_task_information_by_id", {"task_id": "00000001", "field": "x"}, "Field not found."),
    ("project_management_update_task", {"task_id": "00000001", "field": "list_name", "new_value": "Completed"}, "Task updated successfully."),
    ("project_management_delete_task", {"task_id": "2"}, "Task not found."),
    ("customer_relationship_manager_search_customers", {"last_contact_date_max": "2023-11-09"}, "No customers found."),  # as published
    ("customer_relationship_manager_add_customer", {"customer_name": "Bo", "assigned_to_email": "a@x.com", "status": "Lead"}, "00000002"),
    ("customer_relationship_manager_delete_customer", {"customer_id": "00000001"}, "Customer deleted successfully."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "answer"), CALLS)
def test_tools_answer_as_published(place, name, arguments, answer):
    assert use(place, name, **arguments) == answer


def test_searches_are_paged_and_literal(place):
    found = use(place, "calendar_search_events", page_size=1)
    assert [event["event_id"] for event in found["events"]] == ["00000002"]  # the latest first
    assert found["pagination"] == {"total_events": 2, "page": 1, "page_size": 1, "total_pages": 2}
    assert use(place, "calendar_search_events", query="(c++")["pagination"]["total_events"] == 1
    found = use(place, "customer_relationship_manager_search_customers", customer_name="ida")
    assert found["customers"][0]["customer_phone"] is None


@pytest.mark.parametrize("text", ["null", "[" * 100_000, '{"name": "email_delete_email", "arguments": {"email_id": []}}',
    '{"name": "calendar_search_events", "arguments": {"page_size": 0}}', '{"name": "made_up", "arguments": {}}'])  # fmt: skip
def test_bad_calls_answer_with_an_error_and_change_nothing(place, text):
    before = json.dumps(place.compared())
    assert json.loads(place.call(text))["output"].startswith("Error executing tool")
    assert json.dumps(place.compared()) == before


def test_the_five_tables_are_compared_as_published(tables):
    digest = workplace.install(tables)
    send = gold("email_send_email", recipient="bob@x.com", subject="Hello", body="b")
    plot = gold("analytics_create_plot", time_min="2023-11-01", time_max="x", value_to_plot="total_visits", plot_type="bar")
    event = gold("calendar_create_event", event_name="e", participant_email="a@x.com", event_start="2023-12-03", duration="30")
    row = agent.read(raw_row([send]) | {"workplace": digest}, [])
    louder = gold("email_send_email", recipient="bob@x.com", subject="HELLO", body="b")
    failed = gold("email_reply_email", email_id="9", body="b")
    assert agent.verify([written(send), written(failed, louder), written(plot, send), "Done."], [row] * 4) == [1.0, 1.0, 0.0, 0.0]
    assert agent.verify(["Done.", written(event)], [agent.read(raw_row([]) | {"workplace": digest}, [])] * 2) == [1.0, 0.0]
    assert agent.verify([f"<think>{written(send)}</think>Done."], [row]) == [0.0]


def test_blend_keeps_these_rows_with_their_tools_and_an_environment(tables):
    rows = [raw_row([gold("email_delete_email", email_id="00000001")], f"Delete {i}.") for i in range(3)]
    unknown = raw_row([gold("made_up")])
    (tables / rl_blend.BLEND).mkdir(parents=True)
    (tables / rl_blend.BLEND / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, unknown]))
    digest = workplace.install(tables)
    made = [rl_blend.make_row({**raw, "workplace": digest}, {}) for raw in rows]
    assert all(len(row["responses_create_params"]["tools"]) == 27 and row["domain"] == "agent" for row in made)
    assert use(agent.environment(made[0]), "email_delete_email", email_id="00000001") == "Email deleted successfully."
    with pytest.raises(Unusable, match="unknown tool made_up"):
        rl_blend.make_row({**unknown, "workplace": digest}, {})
    with pytest.raises(Unusable, match="data_sources names no folder"):
        rl_blend.make_row(rows[0], {})


def test_a_source_that_is_missing_or_another_is_one_line(tables):
    file = tables / "nemo-gym" / "csv_data" / "emails.csv"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(workplace.WorkplaceError, match=r"emails.csv has SHA-256 .* nemo-gym 0.7.0 is") as error:
        workplace.install(tables)
    assert "\n" not in str(error.value)
    file.unlink()
    with pytest.raises(workplace.WorkplaceError, match=r"lacks emails.csv: put the wheel of nemo-gym"):
        workplace.install(tables)
    with pytest.raises(workplace.WorkplaceError, match="is missing: prepare the data again"):
        workplace.Workplace("0" * 16)


GOLD = {  # of the rollouts, which carry none; each is what its question asks for
    "Create a bar chart of total visits since November 30": [
        gold("analytics_create_plot", time_min="2023-11-30", time_max="2023-11-30", value_to_plot="total_visits", plot_type="bar")
    ],
    "We need to move all customers that haven't responded to a proposal for the consulting product in 3 weeks to lost. "
    "Can you update the CRM?": [],
    "Delete Casey Wilson from the crm": [gold("customer_relationship_manager_delete_customer", customer_id="00000014")],
}


@pytest.fixture
def published(real_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(locations, "RUNS", tmp_path)
    workplace._tables.cache_clear()
    return workplace.install(real_folder)


def test_published_rows_are_read_and_their_gold_calls_are_right(published, real_rows):
    raws = real_rows("workplace_assistant-example.jsonl")
    rows = [rl_blend.make_row(raw | {"dataset": rl_blend.PREFIX + "workbench", "workplace": published}, {}) for raw in raws]
    assert agent.verify([written(*row["ground_truth"]) for row in rows], rows) == [1.0] * 5
    assert agent.verify(["Done."] * 5, rows) == [0.0] * 5


def test_published_outputs_and_rewards_are_met(published, real_rows):
    for rollout in real_rows("workplace_assistant-example_rollouts.jsonl"):
        items, place = rollout["response"]["output"], workplace.Workplace(published)
        recorded = {item["call_id"]: item["output"] for item in items if item["type"] == "function_call_output"}
        calls = [item for item in items if item["type"] == "function_call"]
        for call in calls:
            assert place.call(json.dumps({key: call[key] for key in ("name", "arguments")})) == recorded[call["call_id"]]
        row = {"workplace": published, "ground_truth": GOLD[rollout["responses_create_params"]["input"][-1]["content"]]}
        text = written(*({key: call[key] for key in ("name", "arguments")} for call in calls))
        assert agent.verify([text], [row]) == [rollout["reward"]]
