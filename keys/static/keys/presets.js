"use strict";
// The buttons beside a field, such as "30 days": each enters its value.
document.addEventListener("DOMContentLoaded", () => {
  for (const buttons of document.querySelectorAll(".presets")) {
    const field = buttons.previousElementSibling;
    buttons.hidden = false;
    buttons.addEventListener("click", ({ target }) => {
      const { value } = target.dataset;
      if (value === undefined) return;
      field.value = value;
      field.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }
});
