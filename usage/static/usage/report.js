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
    const usd = (value) => "$" + value.toLocaleString(canvas.dataset.locale, { maximumFractionDigits: 4 });
    const others = ["#e0a030", "#5b9a5b", "#b0506a", "#7a6bb0", "#3fa7a0", "#c2703d", "#999999"];
    const shades = (number) => [colour("--bar-fill"), ...others][number % (others.length + 1)];
    const chart = new Chart(canvas, {
      type: "bar",
      data: {
        labels,
        datasets: series.map((one, number) => ({ ...one, backgroundColor: shades(number) })),
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
    // Light or dark may change while the page is open.
    const paint = () => {
      const { legend } = chart.options.plugins;
      const { x, y } = chart.options.scales;
      for (const part of [legend.labels, x.ticks, y.ticks, y.title]) part.color = colour("--body-fg");
      for (const axis of [x, y]) axis.grid.color = axis.border.color = colour("--hairline-color");
      chart.data.datasets.forEach((one, number) => {
        one.backgroundColor = shades(number);
      });
      chart.update();
    };
    paint();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
    new MutationObserver(paint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }
}
