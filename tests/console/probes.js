// Looks at a page as its visitors do. Each function answers with a list of findings: empty, if all is well.
() => ({
  // The texts whose contrast with their ground is below 4.5.
  contrast() {
    const numbers = (color) => {
      const found = color.match(/rgba?\(([^)]*)\)/);
      const parts = found ? found[1].split(/[ ,/]+/).filter(Boolean).map(Number) : [0, 0, 0, 1];
      return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
    };
    const light = (rgb) => {
      const [red, green, blue] = rgb.map((part) => {
        const value = part / 255;
        return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const ground = (element) => {
      for (let one = element; one; one = one.parentElement) {
        const { rgb, alpha } = numbers(getComputedStyle(one).backgroundColor);
        if (alpha > 0) return rgb;
      }
      return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
    };
    const findings = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
      const element = text.parentElement;
      const words = text.textContent.trim();
      if (!words || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
      const one = light(numbers(getComputedStyle(element).color).rgb);
      const other = light(ground(element));
      const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      if (ratio < 4.5) findings.push(`${words.slice(0, 40)}: ${ratio.toFixed(2)}`);
    }
    return findings;
  },

  // The parts of the page that readers of its structure miss.
  structure() {
    const findings = [];
    const count = (selector) => document.querySelectorAll(selector).length;
    if (count("h1") !== 1) findings.push(`${count("h1")} headings h1`);
    if (count("main") !== 1) findings.push(`${count("main")} elements main`);
    if (!document.documentElement.lang) findings.push("no language");
    if (!document.title) findings.push("no title");
    for (const head of document.querySelectorAll("th:not([scope])")) findings.push(`no scope: ${head.innerText}`);
    for (const chart of document.querySelectorAll("svg")) {
      if (!chart.getAttribute("aria-label")) findings.push("a chart without text");
    }
    for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
      if (!field.labels.length && !field.getAttribute("aria-label")) findings.push(`no label: ${field.name}`);
    }
    for (const one of document.querySelectorAll("nav, section, article, [role=region]")) {
      const hasName = one.getAttribute("aria-label") || one.getAttribute("aria-labelledby");
      if (!hasName) findings.push(`no name: ${one.tagName}`);
    }
    const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
    const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
    if (twice.length) findings.push(`ids that stand twice: ${twice}`);
    return findings;
  },

  // How many elements the keyboard must reach.
  reachable() {
    const kinds = ["a[href]", "button", "input:not([type=hidden])", "select", "textarea", "[tabindex='0']"];
    const all = document.querySelectorAll(kinds.join(", "));
    const names = new Set();
    let radios = 0;
    for (const one of all) {
      // The keyboard reaches one button of a group, and the arrows the others.
      if (one.type === "radio" && names.has(one.name)) radios += 1;
      if (one.type === "radio") names.add(one.name);
    }
    return all.length - radios;
  },
})
