// Light or dark as chosen in Airflow, and links that lead out of the frame it shows our pages in.
"use strict";

function follow() {
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch { /* no storage: as the desktop is */ }
  document.documentElement.dataset.theme = chosen ?? "system";
}

follow();
addEventListener("storage", follow);

// Airflow frames our pages without the right to navigate it; a link in its own page may.
document.addEventListener("click", event => {
  const link = event.target.closest("a[data-airflow]");
  if (!link || parent === window) return;
  const outside = parent.document.createElement("a");
  outside.href = link.href;
  event.preventDefault();
  parent.document.body.append(outside);
  outside.click();
  outside.remove();
});
