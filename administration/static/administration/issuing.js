// Offers only the models that the chosen provider keys serve, and narrows them by what a person types.
"use strict";

{
  const keys = document.querySelectorAll('input[name="provider_keys"]');
  const narrow = document.getElementById("narrow-models");
  const models = document.querySelectorAll(".offers label");

  const show = () => {
    const chosen = new Set([...keys].filter((key) => key.checked).map((key) => key.value));
    const text = narrow.value.trim().toLowerCase();
    for (const model of models) {
      const served = !model.dataset.keys || model.dataset.keys.trim().split(" ").some((key) => chosen.has(key));
      const fits = model.textContent.toLowerCase().includes(text);
      // A model that is picked stays in sight, so that nobody allows what they don't see.
      model.hidden = !(served && fits) && !model.querySelector("input").checked;
    }
  };

  if (narrow) {
    narrow.hidden = false;
    narrow.addEventListener("input", show);
    narrow.addEventListener("keydown", (event) => {
      if (event.key === "Enter") event.preventDefault();
    });
    for (const key of keys) key.addEventListener("change", show);
    show();
  }
}

// A second click would ask for a second key of the same name, and its refusal would hide the page with the secret.
for (const form of document.querySelectorAll("form[data-once]")) {
  let sent = false;
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  window.addEventListener("pageshow", () => {
    sent = false;
  });
}

// The answer is a file, so the page stays: from then on it says that the keys exist, and offers to issue none.
for (const button of document.querySelectorAll('input[name="confirmed"]')) {
  button.form.addEventListener("submit", (event) => {
    if (event.submitter !== button) return;
    // The browser reads the form after this event.
    setTimeout(() => {
      for (const each of document.querySelectorAll("[data-until-sent]")) each.hidden = true;
      for (const each of document.querySelectorAll("[data-once-sent]")) each.hidden = false;
    });
  });
}
