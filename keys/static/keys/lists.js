// A phone shows each row of a list as a card, so each cell needs the heading of its column (site.css).
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const list of document.querySelectorAll("#result_list")) {
    const headings = [...list.querySelectorAll("thead th")].map((each) => each.querySelector(".text")?.textContent.trim());
    for (const row of list.querySelectorAll("tbody tr")) {
      [...row.children].forEach((cell, number) => {
        if (headings[number] && !cell.matches(".action-checkbox")) cell.dataset.label = headings[number];
      });
    }
    list.classList.add("labelled");
  }
});
