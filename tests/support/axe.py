"""axe-core in a page: what keeps people from using it who see it badly, hear it or have no mouse.

https://github.com/dequelabs/axe-core
"""

from __future__ import annotations

import json
from collections.abc import Collection
from importlib.resources import files

from tests.support.browser import Window

SOURCE = (files("axe_playwright_python") / "axe.min.js").read_text()
# The rules that depend on colours, and so on light or dark.
COLOURS = ("color-contrast", "link-in-text-block")
# The rules that depend on the width of the window.
WIDTHS = ("scrollable-region-focusable", "target-size", "nested-interactive")
# The impacts that count: minor ones don't.
IMPACTS = ("critical", "serious", "moderate")
# A transition between light and dark would be caught halfway. Of the hundreds of operations of the API reference, which
# look alike, the first of each group suffices.
RUN = """
document.getAnimations().forEach(each => each.cancel());
var shown = ({target, html}) => `${target.join(" ")} ${html.slice(0, 120)}`;
axe.run({exclude: [".operation-tag-content > span ~ span"]}, %s).then(({violations}) =>
    violations.map(({impact, id, nodes}) => [impact, id, nodes.slice(0, 3).map(shown)]))
"""


def faults(window: Window, rules: Collection[str] = ()) -> list[str]:
    """The faults of the page that is open, of these rules only if some are given."""
    if not window.evaluate("'axe' in window"):
        window.say("Runtime.evaluate", expression=SOURCE)
    options: dict[str, object] = {"resultTypes": ["violations"], "preload": False}
    if rules:
        options["runOnly"] = {"type": "rule", "values": [*rules]}
    found = window.evaluate(RUN % json.dumps(options))
    return [f"{impact} {rule}: {'; '.join(nodes)}" for impact, rule, nodes in found if impact in IMPACTS]
