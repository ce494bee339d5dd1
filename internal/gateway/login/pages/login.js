// Sends the form of a page as JSON and shows what the server answers. The texts are in the page.
"use strict";

const form = document.querySelector("form[data-post]");
const message = document.getElementById("message");

async function send() {
  const body = {};
  for (const input of form.querySelectorAll("input[name]")) body[input.name] = input.value;
  for (const input of form.querySelectorAll("input[data-repeats]")) {
    if (input.value !== body[input.dataset.repeats]) return form.dataset.differs;
  }
  // The secret of a set-up link is behind the '#', so that it reaches no log on its way.
  if (form.dataset.post.endsWith("/setup")) body.token = location.hash.slice(1);
  let answer;
  try {
    answer = await fetch(form.dataset.post, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    return form.dataset.unreachable;
  }
  if (answer.ok) {
    location.replace(form.dataset.then);
    return "";
  }
  const known = form.getAttribute("data-" + answer.status);
  if (known) return known;
  let why = answer.statusText;
  try {
    why = (await answer.json()).message;
  } catch {
    // Not an answer of ours; the status must do.
  }
  return form.dataset.again + " " + why;
}

if (form) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    message.textContent = "";
    message.textContent = await send();
    button.disabled = false;
  });
}
