"""ChatML as Qwen3 has it: what `domains.chat` reads, with the markers of what the model writes."""

_TURNS = """\
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{%- endif %}
{%- elif message.role == 'assistant' %}{{ '<|im_start|>assistant\\n' }}
{%- generation %}{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
{{- '\\n' if not loop.first or message.content }}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>' }}{%- endgeneration %}{{ '\\n' }}
{%- else %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"""

# a tool is shown as `get_event(name)`: a micro model reads a short context
MICRO = (
    """\
{%- if tools %}{{ '<|im_start|>system\\n' }}
{%- for tool in tools %}
{%- set function = tool.function if tool.function is defined else tool %}
{{- function.name + '(' + function.parameters.properties.keys() | join(', ') + ')\\n' }}
{%- endfor %}{{ '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
"""
    + _TURNS
)
# a tool is shown as its JSON schema
GENERAL = (
    """\
{%- if tools %}{{ '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{%- endif %}
{{- 'You may call these functions, a JSON schema a line:\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + (tool | tojson) }}{%- endfor %}
{{- '\\n</tools>\\nCall one by its name and arguments, as JSON within <tool_call></tool_call>.<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'system' and tools and loop.first %}
{%- elif message.role == 'tool' %}
"""
    + _TURNS
)
