"use strict";

{
  const data = document.getElementById("usage-chart-data");
  const canvas = document.getElementById("usage-chart");
  if (data && canvas) {
    const { labels, series } = JSON.parse(data.textContent);
    const style = getComputedStyle(document.documentElement);
    Chart.defaults.color = style.getPropertyValue("--body-fg").trim() || "#333";
    Chart.defaults.borderColor = style.getPropertyValue("--hairline-color").trim() || "#e8e8e8";
    const usd = (value) => "$" + value.toLocaleString("en", { maximumFractionDigits: 4 });
    const colours = ["#417690", "#e0a030", "#5b9a5b", "#b0506a", "#7a6bb0", "#3fa7a0", "#c2703d", "#999999"];
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
