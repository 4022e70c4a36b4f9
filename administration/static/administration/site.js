// The bar's keys: "/" moves to the search box, Escape leaves it and closes open menus.
"use strict";

const typing = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;

document.addEventListener("keydown", (event) => {
  const search = document.getElementById("site-search");
  if (event.key === "/" && search && !typing(event.target) && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "Escape") {
    if (event.target === search) {
      search.value = "";
      search.blur();
    }
    for (const menu of document.querySelectorAll("details.account[open], details.filter-menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.account[open], details.filter-menu[open]")) {
    if (!menu.contains(event.target)) {
      menu.open = false;
    }
  }
});

// The first value of the viewer's time zone is the browser's. It holds from the next page on.
const zoneUrl = document.querySelector("[data-zone-url]")?.dataset.zoneUrl;
const token = document.querySelector("[name=csrfmiddlewaretoken]")?.value;
if (zoneUrl && token) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  fetch(zoneUrl, {
    method: "POST",
    headers: { "X-CSRFToken": token },
    body: new URLSearchParams({ zone, script: "1" }),
    keepalive: true,
  }).catch(() => {});
}
