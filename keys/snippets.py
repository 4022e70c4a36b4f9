"""First calls with a new key, ready to paste: each works as it is, with the key in it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

QUESTION = "Hello!"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A text to paste. `text` contains the key."""

    id: str
    title: str
    where: str
    text: str = field(repr=False)


def snippets(base_url: str, plain: str, model: str) -> list[Snippet]:
    """The first call of each client. docs/clients.md has more of each.

    Args:
        base_url: the gateway's, without a slash at the end.
        plain: the key.
        model: the model that is asked.
    """
    url, key, name = (json.dumps(text) for text in (base_url, plain, model))
    return [
        Snippet("curl", "curl", "In a shell", CURL.format(url=base_url, key=plain, name=name)),
        Snippet("python", "Python", "pip install anthropic", PYTHON.format(url=url, key=key, name=name)),
        Snippet("typescript", "TypeScript", "npm install @anthropic-ai/sdk", TS.format(url=url, key=key, name=name)),
        Snippet("claude-code", "Claude Code", "In a shell", CLAUDE_CODE.format(url=base_url, key=plain)),
        Snippet("environment", "Environment", "For programs that read it", ENVIRONMENT.format(url=base_url, key=plain)),
    ]


CURL = f"""\
curl {{url}}/v1/messages \\
  -H "x-api-key: {{key}}" \\
  -H "anthropic-version: 2023-06-01" -H "content-type: application/json" \\
  -d '{{{{"model": {{name}}, "max_tokens": 100, "messages": [{{{{"role": "user", "content": "{QUESTION}"}}}}]}}}}'
"""
PYTHON = f"""\
from anthropic import Anthropic

client = Anthropic(base_url={{url}}, api_key={{key}})
answer = client.messages.create(
    model={{name}}, max_tokens=100, messages=[{{{{"role": "user", "content": "{QUESTION}"}}}}]
)
print(answer.content[0].text)
"""
TS = f"""\
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({{{{ baseURL: {{url}}, apiKey: {{key}} }}}});
const answer = await client.messages.create({{{{
  model: {{name}}, max_tokens: 100, messages: [{{{{ role: "user", content: "{QUESTION}" }}}}],
}}}});
console.log(answer.content);
"""
CLAUDE_CODE = """\
export ANTHROPIC_BASE_URL={url}
export ANTHROPIC_AUTH_TOKEN={key}
claude
"""
ENVIRONMENT = """\
ANTHROPIC_BASE_URL={url}
ANTHROPIC_API_KEY={key}
"""
