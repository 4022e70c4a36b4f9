// The keyboard: "/" moves to the search box, Escape leaves it and closes what is open, and the focus goes back to where
// it was.
"use strict";

const WITHOUT_TEXT = ["button", "checkbox", "color", "file", "image", "radio", "range", "reset", "submit"];
const typing = (element) =>
  element.closest("textarea, select, [contenteditable]") !== null ||
  (element instanceof HTMLInputElement && !WITHOUT_TEXT.includes(element.type));

const search = document.getElementById("site-search");
let before = null;
search?.addEventListener("focus", (event) => {
  before = event.relatedTarget;
});

const OPEN_MENUS = "details.account[open], details.filter-menu[open], details.page-menu[open]";

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && search && !typing(event.target) && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "Escape") {
    if (event.target === search) {
      search.value = "";
      search.blur();
      before?.focus();
    }
    for (const menu of document.querySelectorAll(OPEN_MENUS)) {
      const inside = menu.contains(document.activeElement);
      menu.open = false;
      if (inside) menu.querySelector("summary").focus();
    }
  }
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(OPEN_MENUS)) {
    if (!menu.contains(event.target)) {
      menu.open = false;
    }
  }
});

// Select2 gives its boxes no name: that of their label, for people who hear the page.
const nameBoxes = () => {
  for (const box of document.querySelectorAll(".select2-selection[role='combobox']:not([data-named])")) {
    const field = box.closest(".select2-container").previousElementSibling;
    const label = field?.labels?.[0];
    if (label) {
      label.id ||= `${field.id}-label`;
      box.setAttribute("aria-labelledby", `${label.id} ${box.getAttribute("aria-labelledby") ?? ""}`);
      box.querySelector("[role='textbox']")?.setAttribute("aria-labelledby", label.id);
    }
    box.dataset.named = "";
  }
};
// A table that is wider than its frame is moved with the arrow keys, once its frame has the focus.
const stopAtWideTables = () => {
  for (const frame of document.querySelectorAll(".table-frame, .results")) {
    if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
    else frame.removeAttribute("tabindex");
  }
};
// jQuery calls in the order of registration, and Django's own script came before this one.
window.django?.jQuery?.(nameBoxes);
window.addEventListener("load", stopAtWideTables);
window.addEventListener("resize", stopAtWideTables);
document.addEventListener("formset:added", nameBoxes);
document.addEventListener("focusin", ({ target }) => {
  if (target.matches(".select2-search__field")) target.ariaLabel = "Search";
});

// The first value of the viewer's time zone is the browser's. It holds from the next page on.
const zoneUrl = document.querySelector("[data-zone-url]")?.dataset.zoneUrl;
const token = document.querySelector("[name=csrfmiddlewaretoken]")?.value;
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zoneUrl && token) {
  fetch(zoneUrl, {
    method: "POST",
    headers: { "X-CSRFToken": token },
    body: new URLSearchParams({ zone, script: "1" }),
    keepalive: true,
  }).catch(() => {});
}

// The list of all zones begins with the browser's own, which is chosen if no other was.
const zones = document.querySelector("select#zone");
const own = [...(zones?.options ?? [])].find((option) => option.value === zone);
if (own) {
  zones.prepend(own);
  if (zoneUrl) own.selected = true;
}
