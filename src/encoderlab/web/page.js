() => {
  // Gradio's own language switch lies in its settings; these buttons in the page's head use it.
  const KEPT = "encoderlab-language";
  const language = () => document.documentElement.lang.split("-")[0];
  const words = () => {
    const all = window.gradio_config.i18n_translations;
    return all[language()] ?? all.en;
  };
  const tabs = {};
  for (const said of Object.values(window.gradio_config.i18n_translations))
    for (const [key, text] of Object.entries(said)) if (key.endsWith("_tab")) tabs[text] = key;
  // Gradio translates one marker per value; what stands inside our HTML is translated here.
  const NAMES = ".tab-container button, .overflow-dropdown button";
  const translate = (root) => {
    const said = words();
    // Of the tabs Gradio translates the names only once they were open.
    for (const one of root.querySelectorAll(NAMES)) {
      const name = [...one.childNodes].find((node) => node.nodeType === 3 && node.data.trim());
      const key = name && tabs[name.data.trim()];
      if (key && name.data.trim() !== said[key]) name.data = said[key];
    }
    for (const one of root.querySelectorAll("[data-say]")) {
      const values = JSON.parse(one.dataset.values ?? "{}");
      const text = said[one.dataset.say]?.replace(/\{(\w+)\}/g, (part, name) => values[name] ?? part);
      if (text && one.textContent !== text) one.textContent = text;
    }
    // What an experiment says has its Korean beside it.
    for (const one of root.querySelectorAll("[data-korean]")) {
      one.dataset.english ??= one.textContent;
      const text = language() === "ko" ? one.dataset.korean : one.dataset.english;
      if (one.textContent !== text) one.textContent = text;
    }
    // Gradio's example pictures are buttons without a name.
    for (const one of root.querySelectorAll(".gallery-item")) {
      const number = [...one.parentElement.children].indexOf(one) + 1;
      one.setAttribute("aria-label", `${said.encoderlab_example} ${number}`);
    }
    for (const one of root.querySelectorAll("[data-say-label]"))
      one.setAttribute("aria-label", said[one.dataset.sayLabel]);
  };
  const buttons = () => document.querySelectorAll("[data-language]");
  const mark = () => {
    for (const one of buttons())
      one.setAttribute("aria-pressed", one.dataset.language === language());
    translate(document);
  };
  const change = async (chosen) => {
    const core = performance
      .getEntriesByType("resource")
      .map((one) => one.name)
      .find((name) => /\/assets\/core-[^/]+\.js/.test(name));
    const { changeLocale } = await import(core);
    await changeLocale(chosen);
    localStorage.setItem(KEPT, chosen);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-language]");
    if (button) change(button.dataset.language);
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      navigator.clipboard?.writeText(copy.parentElement.querySelector("pre").innerText);
      const text = copy.querySelector("[data-say]");
      text.dataset.say = "encoderlab_copied";
      translate(copy);
      setTimeout(() => { text.dataset.say = "encoderlab_copy"; translate(copy); }, 1500);
    }
  });
  new MutationObserver(mark).observe(document.documentElement, { attributeFilter: ["lang"] });
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes)
      for (const node of addedNodes) if (node.querySelectorAll) translate(node);
  }).observe(document.body, { childList: true, subtree: true });
  mark();
  const kept = localStorage.getItem(KEPT);
  if (kept && kept !== language()) change(kept);
};
