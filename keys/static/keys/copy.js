// Buttons with data-copy="ID" put the text of that element on the clipboard.
"use strict";

function select(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    // Without TLS a browser offers no clipboard: the selected text can still be copied.
    select(element);
    return document.execCommand("copy");
  }
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const done = await copy(document.getElementById(button.dataset.copy));
    button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
  });
}
