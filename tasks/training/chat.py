"""How a conversation becomes text: one form for fine-tuning, for evaluation and for the template of the export."""

import re

USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END = "</s>"  # the separator of documents: it ends every answer and starts every context

# What `apply_chat_template` renders for [user, assistant, ...] is END + render(...) + answer + END + ... exactly; a
# test compares the two. No `generation` tag and no filters: llama.cpp's interpreter knows neither.
TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{{ '" + USER + "\\n' + message['content'] + '\\n" + ASSISTANT + "\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}"
    "{% else %}"
    "{{ raise_exception('roles are user and assistant, found ' + message['role']) }}"
    "{% endif %}"
    "{% endfor %}"
)


def render(instruction: str, input: str = "") -> str:  # the field's name in Alpaca's rows
    """The prompt of a task, up to where the answer begins; the answer and `END` follow it.

    Runs of newlines become one, as in the paper's own demo. The separator before the prompt is not part of it: packing
    puts one before every document, and the exported template writes it.
    """
    return f"{USER}\n{user_content(instruction, input)}\n{ASSISTANT}\n"


def user_content(instruction: str, input: str = "") -> str:
    """What the user says: the instruction and, on a line of its own, its input if it has one."""
    parts = [part.strip() for part in (instruction, input)]
    if not parts[0]:
        raise ValueError("a task has an empty instruction; expected text that says what to do")
    return re.sub(r"\n{2,}", "\n", "\n".join(part for part in parts if part))
