"""The front page's snippet for the first call works as it is pasted, and then the page shows the call."""

from __future__ import annotations

import html
import json
import re
import subprocess

from tests.support.gateway import CLIENT, rows
from tests.support.signed_in import signed_in


def test_the_snippet_works_as_pasted_and_ends_the_path(web, echo_alice):
    with signed_in() as cookies:
        session = {"cookie": f"sessionid={cookies['sessionid']}"}
        page = CLIENT.get(f"{web.url}/admin/", headers=session).text
        found = re.search(r'<pre id="first-call">(.*?)</pre>', page, re.S)
        assert found
        # A person pastes the command, and then the key.
        command = ["bash", "-c", html.unescape(found[1])]
        said = subprocess.run(
            command, input=f"{echo_alice.key}\n", capture_output=True, text=True, timeout=60, check=True
        )
        assert json.loads(said.stdout)["type"] == "message"
        rows(1)
        page = CLIENT.get(f"{web.url}/admin/", headers=session).text
        assert "Five steps" not in page
        assert "Spent today" in page
