// The page, kept as it is now: its live parts are fetched again as they are, and buttons act. What is shown is made by the server alone.
"use strict";

const EVERY = 2000; // The bridge asks its databases once in a second at most.
const TOKEN = "pontoon-token"; // Kept by the browser for this tab, and no longer.
const element = (id) => document.getElementById(id);
const read = async (answer) => new DOMParser().parseFromString(await answer.text(), "text/html");

function say(text, bad) {
  element("said").textContent = text;
  element("said").className = bad ? "bad" : "";
}

// Puts the live parts of a new page in the place of the old ones, where they differ. The focus stays on the button that had it.
function renew(page) {
  const focused = document.activeElement?.id;
  for (const part of page.querySelectorAll("[data-live]")) {
    const old = element(part.id);
    if (old.innerHTML !== part.innerHTML) old.replaceChildren(...part.childNodes);
  }
  if (focused && document.activeElement?.id !== focused) element(focused)?.focus({ preventScroll: true });
}

async function refresh() {
  try {
    const answer = await fetch(location.pathname, { signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(`the page answers ${answer.status}`);
    renew(await read(answer));
    document.body.classList.remove("stale");
  } catch (error) {
    document.body.classList.add("stale");
  }
}

async function again() {
  if (!document.hidden && !document.querySelector("dialog[open]")) await refresh();
  setTimeout(again, EVERY);
}

// Shows a dialog; whether it was closed by the button that goes on.
function confirmed(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "go"), { once: true }));
}

// The token, which is asked for once. Empty where nobody gives one.
async function token() {
  const kept = sessionStorage.getItem(TOKEN);
  if (kept) return kept;
  element("token").value = "";
  if (!(await confirmed(element("ask")))) return "";
  const given = element("token").value.trim();
  element("token").value = "";
  keep(given);
  return given;
}

function keep(given) {
  if (given) sessionStorage.setItem(TOKEN, given);
  else sessionStorage.removeItem(TOKEN);
  const forget = element("forget");
  if (forget) forget.hidden = !given;
}

// Asks with the token. Undefined where it was not asked, or refused, which is said.
async function ask(path, options) {
  const given = await token();
  if (!given) return;
  const headers = { ...options?.headers, authorization: `Bearer ${given}` };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    return say("The bridge does not answer.", true);
  }
  if (answer.ok) return answer;
  if (answer.status === 401) keep("");
  const text = await answer.text();
  try {
    const { error } = JSON.parse(text);
    say(error.hint ? `${error.message}. ${error.hint}` : error.message, true);
  } catch {
    say(text.trim(), true);
  }
}

const post = (path, body) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
const said = async (answer) => (await answer.json()).said.join("; ");

async function act(button) {
  const body = JSON.parse(button.dataset.body);
  say("…");
  let answer = await post(button.dataset.act, body);
  if (answer && button.id.startsWith("discard-")) {
    // It was only asked what would be done.
    element("sure-text").textContent = `It ${await said(answer)}.`;
    if (!(await confirmed(element("sure")))) return say("Nothing was discarded.");
    answer = await post(button.dataset.act, { ...body, execute: true });
  }
  if (answer) say(await said(answer));
  else if (element("said").textContent === "…") say("");
  await refresh();
}

async function show(button) {
  const answer = await ask(button.dataset.rows);
  if (!answer) return;
  element("rows-shown").replaceChildren(...(await read(answer)).body.childNodes);
  await confirmed(element("rows"));
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button");
  const { act: does, rows } = button?.dataset ?? {};
  if (!does && !rows) return;
  const { id } = button;
  button.setAttribute("aria-busy", "true");
  try {
    await (does ? act(button) : show(button));
  } finally {
    button.removeAttribute("aria-busy");
    element(id)?.focus({ preventScroll: true });
  }
});
element("forget")?.addEventListener("click", () => keep(""));
document.documentElement.classList.add("script");
keep(sessionStorage.getItem(TOKEN));
setTimeout(again, EVERY);
