// Markdown of models as a fragment of the document. HTML in it is escaped; what comes out is sanitised once more; nothing in it is loaded.

/** Characters up to which a text is read as Markdown, and shown at all before one asks for more. */
const MARKDOWN_LIMIT = 40000;
const SHOWN_LIMIT = 60000;

const markdown = makeMarkdown();

function makeMarkdown() {
  const parser = window.markdownit({ html: false, breaks: true, linkify: false, typographer: false });
  // Models underline nothing and indent for looks; a definition of a link would vanish from what they have said.
  parser.disable(["lheading", "code", "reference"]);
  parser.inline.ruler.before("escape", "tex", tex);
  parser.inline.ruler.before("html_inline", "plain_tags", plainTags);
  emphasiseBesideCJK(parser);
  const escaped = parser.utils.escapeHtml;
  const { rules } = parser.renderer;
  // An address is shown and not followed: nothing that a model says may lead out of this page by a slip of the hand.
  rules.link_open = (tokens, i, _, env) => {
    (env.addresses ||= []).push(tokens[i].attrGet("href") || "");
    return '<span class="link">';
  };
  rules.link_close = (tokens, i, _, env) => {
    const address = (env.addresses || []).pop() || "";
    const said = tokens[i - 1] && tokens[i - 1].content;
    return said === address ? "</span>" : `</span> <span class="address">${escaped(address)}</span>`;
  };
  rules.image = (tokens, i) => {
    const address = tokens[i].attrGet("src") || "";
    const shown = address.startsWith("data:") ? `${address.slice(0, 40)}…` : address;
    return `<span class="picture">${escaped(tokens[i].content || "image")} <span class="address">${escaped(shown)}</span></span>`;
  };
  for (const cell of ["th", "td"]) {
    rules[`${cell}_open`] = (tokens, i) => {
      const side = /right|center/.exec(tokens[i].attrGet("style") || "");
      return side ? `<${cell} class="${side[0]}">` : `<${cell}>`;
    };
  }
  rules.table_open = () => '<div class="table"><table>';
  rules.table_close = () => "</table></div>";
  rules.fence = (tokens, i) => {
    const language = tokens[i].info.trim().split(/\s+/)[0];
    const label = language ? `<span class="language">${escaped(language)}</span>` : "";
    return `<div class="fence">${label}<pre><code>${escaped(tokens[i].content)}</code></pre></div>`;
  };
  rules.tex = (tokens, i) => `<span class="${tokens[i].markup}">${escaped(tokens[i].content)}</span>`;
  return parser;
}

/**
 * Set apart what follows a list, a quotation or a table, or begins one: Markdown would take the line in as one more of theirs, and
 * the blank line that kept it out may have been dropped when the reply was read. Code stays as it is.
 */
function apart(text) {
  const lines = [];
  let fence = "";
  let within = false; // a list or a quotation
  for (const line of text.split("\n")) {
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line);
    const opens = !fence && mark;
    const previous = lines.length ? lines[lines.length - 1] : "";
    if (!fence && previous.trim()) {
      const item = /^\s*(?:[-*+]|\d{1,9}[.)])(?:\s|$)/.test(line);
      const quoted = /^ {0,3}>/.test(line);
      const leaves = within && /^\S/.test(line) && !item && !quoted;
      const row = /^ {0,3}\|/;
      const table = row.test(line) && !row.test(previous);
      const behindTable = row.test(previous) && !line.includes("|");
      if (leaves || table || behindTable) lines.push("");
      within = item || quoted || (within && !leaves);
    } else if (!fence) {
      within = /^\s*(?:[-*+]|\d{1,9}[.)])(?:\s|$)|^ {0,3}>/.test(line);
    }
    if (opens) fence = mark[1];
    else if (fence && mark && mark[1].startsWith(fence) && !line.trim().slice(mark[1].length)) fence = "";
    lines.push(line);
  }
  return lines.join("\n");
}

/** Formulas stay as they were written: their backslashes and underscores mean nothing to Markdown. */
function tex(state, silent) {
  const { src, pos } = state;
  const first = src[pos];
  if (first !== "$" && first !== "\\") return false;
  const pairs = { "$$": "$$", "\\[": "\\]", "\\(": "\\)" };
  const two = src.slice(pos, pos + 2);
  let end;
  let display = false;
  if (pairs[two]) {
    const close = src.slice(pos + 2, pos + 2000).indexOf(pairs[two]);
    if (close < 0) return false;
    end = pos + 2 + close + 2;
    display = two !== "\\(";
  } else {
    if (first !== "$") return false;
    const match = /^\$(?=\S)(?:[^$\n\\]|\\.){0,500}?[^\s$\\]\$(?!\d)/.exec(src.slice(pos, pos + 520));
    if (!match) return false;
    end = pos + match[0].length;
  }
  if (end > state.posMax) return false;
  if (!silent) {
    const token = state.push("tex", "", 0);
    token.content = src.slice(pos, end);
    token.markup = display ? "tex display" : "tex";
  }
  state.pos = end;
  return true;
}

/** The few tags that models put into Markdown for want of a mark: as tags; the sanitiser closes what is left open. */
function plainTags(state, silent) {
  const match = /^<(br|\/?sub|\/?sup|\/?u|\/?kbd)\s*\/?>/i.exec(state.src.slice(state.pos, state.pos + 10));
  if (!match) return false;
  if (!silent) state.push("html_inline", "", 0).content = `<${match[1].toLowerCase()}>`;
  state.pos += match[0].length;
  return true;
}

/** CommonMark reads **「強調」**の as stars, since no space stands beside them; no space stands in Japanese (after markdown-cjk-friendly). */
function emphasiseBesideCJK(parser) {
  const cjk = /[\u1100-\u11ff\u2e80-\u303f\u3040-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]|[\ud840-\ud8bf][\udc00-\udfff]/;
  const { State } = parser.inline;
  parser.inline.State = class extends State {
    scanDelims(start, canSplitWord) {
      const found = super.scanDelims(start, canSplitWord);
      const before = this.src.slice(Math.max(start - 2, 0), start).slice(-1);
      const pair = this.src.slice(Math.max(start - 2, 0), start);
      const after = this.src.slice(start + found.length, start + found.length + 2);
      if (canSplitWord && /\S/.test(before) && /^\S/.test(after) && (cjk.test(before) || cjk.test(pair.slice(-2)) || cjk.test(after[0]) || cjk.test(after))) {
        found.can_open = true;
        found.can_close = true;
      }
      return found;
    }
  };
}

const SANITISED = {
  ALLOWED_TAGS: "p br hr h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong s u kbd div table thead tbody tr th td span sub sup #text".split(" "),
  ALLOWED_ATTR: ["class", "start"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** A text in a block of its own, as Markdown unless `plain`. Long ones are not read as Markdown, and shown bit by bit. */
function textBlock(text, plain) {
  const shown = visible(text);
  const block = make("div", { class: "text", lang: languageOf(shown), dir: "auto" });
  if (!plain && shown.length <= MARKDOWN_LIMIT) {
    try {
      block.append(DOMPurify.sanitize(markdown.render(apart(shown), {}), SANITISED));
      return block;
    } catch {
      block.replaceChildren();
    }
  }
  if (!plain) block.append(make("p", { class: "aside", lang: "en", dir: "ltr" }, `${count(shown.length, "character")}: shown as plain text`));
  appendPlain(block, shown, 0);
  return block;
}

function appendPlain(block, text, start) {
  const end = start + SHOWN_LIMIT;
  block.append(make("div", { class: "plain", dir: "auto" }, text.slice(start, end)));
  if (end >= text.length) return;
  const more = make("button", { class: "more", onclick: () => { more.remove(); appendPlain(block, text, end); } },
    `Show more (${count(text.length - end, "character")} left)`);
  block.append(more);
}
