// What html-validate looks for in a mail: all it recommends, but for what mail programs need otherwise.
module.exports = {
  root: true,
  extends: ["html-validate:recommended"],
  rules: {
    // Gmail drops a style sheet when a mail is forwarded or too long for it; what must hold stands on the element.
    "no-inline-style": "off",
    // Outlook for Windows sets pages with Word: it reads only conditional comments, and needs tables to keep columns.
    "no-conditional-comment": "off",
    // Word takes widths, alignment, spacing and grounds from attributes; of styles it knows half.
    "no-deprecated-attr": "off",
    // MJML writes these so; browsers and mail programs read both the same.
    "doctype-style": "off",
    "void-style": "off",
    "prefer-tbody": "off",
    // <main>, <article> and the like are unknown to Outlook and stripped by Gmail; a role on a div stays.
    "prefer-native-element": "off",
    // The title is the subject, which the proof looks at in an inbox's terms.
    "long-title": "off",
  },
};
