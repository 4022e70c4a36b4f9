// A person who chooses a date means own dates.
"use strict";
const range = document.getElementById("id_range");
for (const name of ["since", "until"]) {
  document.getElementById(`id_${name}`)?.addEventListener("input", () => { range.value = ""; });
}
