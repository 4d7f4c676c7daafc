// Elements of the page. Texts come in as text nodes, never as HTML.
"use strict";

/** Makes an element: `make("button", {class: "x", onclick: f}, "text", child)`. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** A block as wide as a share of its parent. The policy forbids style attributes, not styles that are set. */
function bar(className, share) {
  const element = make("span", { class: className });
  element.style.width = `${Math.round(share * 1000) / 10}%`;
  return element;
}

const number = new Intl.NumberFormat("en");
const count = (n, what) => `${number.format(n)} ${what}${n === 1 ? "" : "s"}`;
const percent = (share) => (share > 0 && share < 0.01 ? "< 1 %" : `${Math.round(share * 100)} %`);
const SHOWN_OUTCOMES = { timed_out: "timed out" };
const outcomeName = (outcome) => SHOWN_OUTCOMES[outcome] || outcome;
