"""Asks an OpenAI-compatible server with OpenAI's own Python client: python ask.py URL MODEL < permissions, one a line

Each permission goes into the one header that differs from an ordinary call. Prints one JSON object: what came of a conversation, of the same
as a stream, of a text, of a used permission, and of none.
"""

from __future__ import annotations

import json
import sys

import openai


def main() -> None:
    url, model = sys.argv[1:3]
    tokens = [line.strip() for line in sys.stdin if line.strip()]
    client = openai.OpenAI(base_url=url, api_key="unused", max_retries=0)
    messages = [{"role": "user", "content": "What is the capital of France?"}]

    def permitted(token: str) -> dict[str, str]:
        return {"OML-Permission": token}

    whole = client.chat.completions.with_raw_response.create(
        model=model, messages=messages, temperature=0, max_tokens=24, extra_headers=permitted(tokens[0])
    )
    chat = whole.parse()
    stream = client.chat.completions.create(
        model=model, messages=messages, temperature=0, max_tokens=24, stream=True,
        stream_options={"include_usage": True}, extra_headers=permitted(tokens[1]),
    )
    streamed, counts = "", None
    for part in stream:
        counts = part.usage or counts
        for choice in part.choices:
            streamed += choice.delta.content or ""
    text = client.completions.create(
        model=model, prompt="The capital of France is", temperature=0, max_tokens=8, extra_headers=permitted(tokens[2])
    )

    def refusal(headers: dict[str, str] | None) -> list[object]:
        try:
            client.chat.completions.create(model=model, messages=messages, extra_headers=headers)
        except openai.APIStatusError as error:
            return [error.status_code, error.code]
        return [200, None]

    print(json.dumps({
        "models": [served.id for served in client.models.list()],
        "chat": chat.choices[0].message.content, "receipt": whole.headers.get("oml-receipt"),
        "finish": chat.choices[0].finish_reason, "tokens": chat.usage.completion_tokens,
        "streamed": streamed, "streamed_tokens": counts and counts.completion_tokens,
        "text": text.choices[0].text,
        "used": refusal(permitted(tokens[0])), "none": refusal(None), "version": openai.__version__,
    }))


if __name__ == "__main__":
    main()
