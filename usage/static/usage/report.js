"use strict";

{
  const data = document.getElementById("usage-chart-data");
  const canvas = document.getElementById("usage-chart");
  if (data && canvas) {
    const { labels, series } = JSON.parse(data.textContent);
    // The variables have a value for light and one for dark: an element resolves them.
    const colour = (variable) => {
      const probe = document.createElement("span");
      probe.style.color = `var(${variable})`;
      canvas.parentElement.append(probe);
      const found = getComputedStyle(probe).color;
      probe.remove();
      return found;
    };
    Chart.defaults.color = colour("--body-fg");
    Chart.defaults.borderColor = colour("--hairline-color");
    const usd = (value) => "$" + value.toLocaleString("en", { maximumFractionDigits: 4 });
    const colours = [colour("--bar-fill"), "#e0a030", "#5b9a5b", "#b0506a", "#7a6bb0", "#3fa7a0", "#c2703d", "#999999"];
    new Chart(canvas, {
      type: "bar",
      data: {
        labels,
        datasets: series.map((one, number) => ({ ...one, backgroundColor: colours[number % colours.length] })),
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index" },
        plugins: {
          legend: { display: series.length > 1, position: "bottom" },
          tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${usd(item.parsed.y)}` } },
        },
        scales: {
          x: { stacked: true, grid: { display: false } },
          y: { stacked: true, beginAtZero: true, ticks: { callback: usd }, title: { display: true, text: "Cost, USD" } },
        },
      },
    });
  }
}
