// Shows the button for passkeys, which does nothing without scripts, and says in the page what allauth's script would
// only write to the console.
document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("passkey").hidden = false;
});
document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const line = document.getElementById("passkey-error");
  const cancelled = event.detail.exception && event.detail.exception.name === "NotAllowedError";
  line.textContent = cancelled
    ? "The passkey was not used: the browser's dialog was closed, or it took too long."
    : "The browser can't use a passkey here. Use another way.";
  line.hidden = false;
});
