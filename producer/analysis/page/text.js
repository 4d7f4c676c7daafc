// Text as it is read: its language, what cannot be seen in it, and how it is compared with what is looked for.

const KANA = /[\u3041-\u30ff\uff66-\uff9f]/;
const HANGUL = /[\uac00-\ud7af]/;
const HAN = /[\u3400-\u9fff]/;
const LATIN = /[A-Za-z]/;
const LOOKED_AT = 4000;

/** The language that fonts and line breaks are to follow; undefined leaves the choice to the browser. */
function languageOf(text) {
  const head = text.slice(0, LOOKED_AT);
  if (KANA.test(head)) return "ja";
  if (HANGUL.test(head)) return "ko";
  if (HAN.test(head)) return "ja";
  return LATIN.test(head) ? "en" : undefined;
}

/** Control characters as their pictures, and marks that turn the direction of other text as what they are called. */
function visible(text) {
  return text
    .replace(/\r\n?/g, "\n")
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u202a-\u202e\u2066-\u2069]/g, (c) => `[U+${c.charCodeAt(0).toString(16).toUpperCase()}]`);
}

/** Full-width letters and case do not count when something is looked for. */
const folded = (text) => text.normalize("NFKC").toLowerCase();
