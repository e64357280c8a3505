"use strict";
// The page Sites: asks for its data every few seconds while it is looked at. All text is set as
// text, never as HTML.
const SECONDS = 5;
const site = new URLSearchParams(location.search).get("site");
const content = document.getElementById("content");
const STATES = ["failed", "waiting", "running", "cancelled", "skipped", "pending"];
let timer = 0;
let shown = "";

function make(name, text, settings) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  Object.entries(settings || {}).forEach(([key, value]) => element.setAttribute(key, value));
  return element;
}

function row(kind, cells) {
  const made = make("tr");
  cells.forEach(cell => made.append(cell instanceof Node ? cell : make(kind, cell)));
  return made;
}

function head(titles) {
  const made = make("thead");
  made.append(row("th", titles.map(title => make("th", title, {scope: "col"}))));
  return made;
}

function ago(seconds) {
  if (seconds === null) return "never";
  if (seconds < 60) return "just now";
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  const [size, name] = units.find(([unit]) => seconds >= unit);
  return `${Math.floor(seconds / size)} ${name} ago`;
}

function stepCell(step) {
  const cell = make("td");
  if (!step) {
    cell.append(make("span", "not reported", {class: "small quiet"}));
    return cell;
  }
  const done = step.counts.succeeded + step.counts.skipped;
  cell.append(make("span", `${step.percent} % `), make("span", `${done}/${step.total}`, {class: "quiet"}));
  const bar = make("span", undefined, {class: "bar", "aria-hidden": "true"});
  const filled = make("i");
  filled.style.width = `${step.percent}%`;
  bar.append(filled);
  cell.append(bar);
  const words = STATES.filter(state => step.counts[state] && !(state === "waiting" && step.person))
    .map(state => make("span", `${step.counts[state]} ${state}`,
      {class: state === "failed" ? "small bad" : "small quiet"}));
  if (step.person) {
    words.unshift(make("span", `${step.person} for a person`, {class: "small warn"}));
  }
  const counts = make("div", undefined, {class: "counts"});
  words.forEach((word, index) => counts.append(index ? ", " : "", word));
  cell.append(counts);
  return cell;
}

function siteRow(each, steps) {
  const name = make("th", undefined, {scope: "row"});
  name.append(make("a", each.site, {href: `?site=${encodeURIComponent(each.site)}`}));
  name.append(make("div", `run ${each.run}, since ${each.started.replace("T", " ").replace("Z", " UTC")}`,
    {class: "small quiet"}));
  const state = make("td", each.state, {class: {failed: "bad", succeeded: "good"}[each.state] || ""});
  const heard = make("td", ago(each.heard));
  if (each.stale) heard.append(make("div", "not heard of for long", {class: "small warn"}));
  return row("td", [name, state, make("td", each.person ? String(each.person) : "nobody",
    {class: each.person ? "warn" : "quiet"}), heard, each.version,
    ...steps.map(step => stepCell(each.steps[step.id]))]);
}

function planTable(plan) {
  const table = make("table", undefined, {class: "sites"});
  table.append(make("caption", plan.known ? plan.title
    : `${plan.title}: no spec here has it`));
  table.append(head(["Site", "State", "Waiting for", "Last heard", "Version",
    ...plan.steps.map(step => step.title)]));
  const body = make("tbody");
  body.append(...plan.sites.map(each => siteRow(each, plan.steps)));
  table.append(body);
  const scroll = make("div", undefined, {class: "scroll", tabindex: "0", role: "region",
    "aria-label": `Sites of ${plan.title}`});
  scroll.append(table);
  return scroll;
}

function showSites(data) {
  const waiting = data.plans.flatMap(plan => plan.sites).filter(each => each.person).length;
  const stale = new Set(data.plans.flatMap(plan => plan.sites.filter(each => each.stale)
    .map(each => each.site)));
  const parts = [data.sites.length === 1 ? "1 site" : `${data.sites.length} sites`];
  parts.push(waiting ? `${waiting} waiting for a person` : "none waiting for a person");
  if (stale.size) parts.push(`${stale.size} not heard of for long`);
  const made = data.plans.map(planTable);
  const silent = data.sites.filter(each => each.heard === null).map(each => each.name);
  if (silent.length) made.push(make("p", `Not heard of yet: ${silent.join(", ")}`));
  const revoked = data.sites.filter(each => !each.may_report).map(each => each.name);
  if (revoked.length) made.push(make("p", `Revoked: ${revoked.join(", ")}`, {class: "quiet"}));
  if (!data.sites.length) {
    document.getElementById("about").textContent = "No sites yet.";
    const how = make("p", "In a terminal of this machine: ");
    how.append(make("code", "proctor coordinator add-site NAME"));
    made.push(how);
  } else {
    document.getElementById("about").textContent = parts.join(", ");
  }
  content.replaceChildren(...made);
}

function showHistory(data) {
  document.getElementById("title").textContent = `Site ${data.site}`;
  const about = document.getElementById("about");
  about.replaceChildren(make("a", "All sites", {href: "/proctor/sites"}));
  if (!data.reports.length) {
    content.replaceChildren(make("p", "This site has reported nothing yet."));
    return;
  }
  const table = make("table", undefined, {class: "sites"});
  table.append(make("caption", `Its last ${data.reports.length} reports, the newest first`));
  table.append(head(["Received (UTC)", "#", "Pipeline", "Run", "State", "Done", "Failed",
    "Waiting for a person", "Version"]));
  const body = make("tbody");
  body.append(...data.reports.map(each => row("td", [
    each.at.slice(0, 19).replace("T", " "), String(each.sequence), each.plan, String(each.run),
    make("td", each.state, {class: {failed: "bad", succeeded: "good"}[each.state] || ""}),
    `${each.percent} %`, each.failed ? make("td", String(each.failed), {class: "bad"}) : "",
    each.person ? make("td", String(each.person), {class: "warn"}) : "", each.version])));
  table.append(body);
  const scroll = make("div", undefined, {class: "scroll", tabindex: "0", role: "region",
    "aria-label": "Reports"});
  scroll.append(table);
  content.replaceChildren(scroll);
}

async function look() {
  clearTimeout(timer);
  let problem = "";
  try {
    const address = site === null ? "/proctor/sites/data"
      : `/proctor/sites/history?site=${encodeURIComponent(site)}`;
    const answer = await fetch(address, {credentials: "same-origin"});
    if (answer.ok) {
      const text = await answer.text();
      // What is as it was is not drawn again: who reads or selects keeps their place.
      if (text !== shown) (site === null ? showSites : showHistory)(JSON.parse(text));
      shown = text;
    } else if (answer.status === 401 || answer.status === 403) {
      problem = "You are not logged in any more. Log in, then load this page again.";
    } else if (answer.status === 404) {
      problem = `There is no site ${site}.`;
    } else {
      problem = `The coordinator answers with an error (${answer.status}). Trying again.`;
    }
  } catch (error) {
    problem = "The coordinator does not answer; what is shown may be old. Trying again.";
  }
  if (document.getElementById("told").textContent !== problem) {
    document.getElementById("told").textContent = problem;
  }
  if (problem && !shown) document.getElementById("about").textContent = "";
  if (!document.hidden) timer = setTimeout(look, SECONDS * 1000);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) look();
});
look();
