"""Ordinary chat templates in the style of well-known families, written for the tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CHATML: Final = """\
{%- if not messages or messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou answer briefly.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

LLAMA: Final = """\
{{- bos_token }}
{%- if custom_tools is defined %}{% set tools = custom_tools %}{% endif %}
{%- set date_string = date_string if date_string is defined else strftime_now('%d %b %Y') %}
{%- if messages[0].role == 'system' %}
    {%- set system_message = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
<|start_header_id|>system<|end_header_id|>

Today is {{ date_string }}.
{% if tools is not none %}{% for tool in tools %}{{ tool | tojson(indent=4) }}
{% endfor %}{% endif %}{{ system_message }}<|eot_id|>
{%- for message in messages %}
    {%- if 'tool_calls' in message and message.tool_calls | length != 1 %}
        {{- raise_exception('One call at a time.') }}
    {%- endif %}
    {{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' ~ message.content }}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}
"""

MISTRAL: Final = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set lead, turns = messages[0]['content'], messages[1:] %}
{%- else %}
    {%- set lead, turns = '', messages %}
{%- endif %}
{{- bos_token }}
{%- for turn in turns %}
    {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Turns of user and assistant have to alternate.') }}
    {%- endif %}
    {%- if turn['role'] == 'user' %}
        {{- '[INST] ' + (lead + '\\n\\n' if loop.first and lead else '') + turn['content'] }}
        {{- ' [/INST]' }}
    {%- else %}
        {{- ' ' + turn['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""

GEMMA: Final = """\
{{ bos_token }}
{%- macro text_of(message) -%}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' -%}<start_of_image>
            {%- elif part['type'] == 'text' -%}{{ part['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' ~ role ~ '\\n' }}{{ text_of(message) }}{{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""

QWEN: Final = """\
{%- set ns = namespace(last=messages | length - 1, open=true) %}
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- '# Tools\\n\\nFunctions, one JSON object per line:\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if ns.open and message.role == 'user' and not message.content.startswith('<tool') %}
        {%- set ns.open = false %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if loop.index0 > ns.last and thought %}{{- '<think>\\n' + thought.strip('\\n') }}
            {{- '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {%- set call = call.function if call.function else call %}
            {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>' }}
    {%- endif %}
{%- endif %}
"""

TRAINED: Final = """\
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant'] %}{% continue %}{% endif %}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ '<assistant> ' + message.content }}{% endgeneration %}
    {%- else %}
        {{- '<user> ' + message.content | replace('<', '&lt;') | upper }}
        {%- for key, value in message.items() if key not in ('role', 'content') %}
            {{- ' ' ~ key ~ '=' ~ message[key] | string }}
        {%- endfor %}
    {%- endif %}
{%- endfor %}
{%- set names = messages | map(attribute='role') | unique | list | join(', ') %}
{%- set users = messages | selectattr('role', 'equalto', 'user') | list %}
{{- ' (' ~ users | length ~ ' of ' ~ names ~ ')' }}
"""

TEMPLATES: Final[Mapping[str, str]] = MappingProxyType({
    "chatml": CHATML, "llama": LLAMA, "mistral": MISTRAL, "gemma": GEMMA, "qwen": QWEN,
    "trained": TRAINED,
})  # fmt: skip
"""By the family whose style they have; `trained` marks what the assistant says."""
