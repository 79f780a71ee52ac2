// What the page does in the browser alone: keep the newest words in sight, open and close the side and the margin,
// copy text, and remember two switches. Everything else is the server's.
(() => {
  const NARROW = "(max-width: 999px)";
  const body = () => document.body;

  const preference = (name, otherwise) => {
    const kept = localStorage.getItem(`marginalia.${name}`);
    return kept === null ? otherwise : kept === "true";
  };

  window.marginalia = {
    // The switches as this browser last had them. On a narrow screen the margin covers the chat, so it starts closed.
    preferences() {
      const narrow = matchMedia(NARROW).matches;
      const showPrompt = !narrow && preference("showPrompt", true);
      marginalia.showMargin(showPrompt, { keep: false });
      bringDraftBack();
      return [preference("useMemory", true), showPrompt];
    },
    showMargin(shown, { keep = true } = {}) {
      body().dataset.margin = shown ? "open" : "closed";
      if (keep && !matchMedia(NARROW).matches) localStorage.setItem("marginalia.showPrompt", String(shown));
    },
    rememberMemory(used) {
      localStorage.setItem("marginalia.useMemory", String(used));
    },
    // A file that the browser makes of a text: the server has no door for files.
    download(text) {
      if (!text) return;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "application/jsonl" }));
      link.download = "marginalia-preferences.jsonl";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    },
    // How far the tour has come: the ids of its conversations.
    tour() {
      return localStorage.getItem("marginalia.tour") ?? "";
    },
    rememberTour(ids) {
      localStorage.setItem("marginalia.tour", ids);
    },
    focusBox() {
      document.querySelector("#message textarea")?.focus();
    },
    focusTitle() {
      // The row is shown by the server's answer; the field can be focused once it is there.
      const field = () => document.querySelector("#title-field :is(input, textarea)");
      const watch = new MutationObserver(() => {
        if (!field()?.offsetParent) return;
        watch.disconnect();
        field().select();
      });
      watch.observe(document.getElementById("text"), { childList: true, subtree: true, attributes: true });
    },
    // The address names the open conversation, so that a reload, a bookmark and the other pages find it.
    rememberAddress(conversation) {
      const query = conversation ? `?c=${encodeURIComponent(conversation)}` : location.pathname;
      const open = new URLSearchParams(location.search).get("c") ?? "";
      if (conversation !== open) history.pushState(null, "", query);
      document.querySelectorAll("a[data-page]").forEach((link) => {
        const path = new URL(link.href, location.href).pathname;
        link.href = conversation ? `${path}?c=${encodeURIComponent(conversation)}` : path;
      });
      delete body().dataset.side;
    },
    // The same of a comparison, for a reload.
    rememberComparison(comparison) {
      const query = new URLSearchParams(location.search);
      if (!comparison || query.get("k") === comparison) return;
      query.set("k", comparison);
      history.replaceState(null, "", `${location.pathname}?${query}`);
    },
  };

  document.addEventListener("click", async (event) => {
    const toggle = event.target.closest("[data-toggle]");
    if (toggle) {
      if (body().dataset.side) delete body().dataset.side;
      else body().dataset.side = "open";
    }
    else if (body().dataset.side && !event.target.closest("#side")) {
      delete body().dataset.side;
    }
    const jump = event.target.closest("[data-jump]");
    if (jump) {
      event.preventDefault();
      const place = document.getElementById(jump.dataset.jump);
      place?.scrollIntoView();
      place?.focus({ preventScroll: true });
    }
    const untick = event.target.closest("[data-untick]");
    if (untick) document.querySelector(`#${untick.dataset.untick} input`)?.click();
    // Gradio's own list of the API opens from its footer, which is hidden here.
    const press = event.target.closest("[data-press]");
    if (press) document.querySelector(press.dataset.press)?.click();
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      await navigator.clipboard.writeText(document.getElementById(copy.dataset.copy).textContent);
      copy.textContent = "Copied";
    }
    const link = event.target.closest("[data-copy-link]");
    if (link) {
      await navigator.clipboard.writeText(new URL(link.dataset.copyLink, location.origin).href);
      link.textContent = "Copied";
    }
    const save = event.target.closest("[data-save]");
    if (save) {
      const file = new Blob([document.getElementById(save.dataset.save).textContent], { type: save.dataset.type ?? "application/json" });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(file);
      link.download = save.dataset.name;
      link.click();
      URL.revokeObjectURL(link.href);
    }
  });

  // Back and Forward go through the conversations that were open.
  window.addEventListener("popstate", () => location.reload());

  // Gradio's page does not come back by itself when the server was away. What was typed is carried over the reload.
  const DRAFT = "marginalia.draft";
  const ASK_EVERY_MS = 5000;
  const box = () => document.querySelector("#message textarea");
  const lookForServer = async () => {
    const answers = await fetch("/marginalia/icon.svg", { cache: "no-store" }).then((r) => r.ok, () => false);
    const gone = document.getElementById("gone");
    if (answers && gone) {
      if (box()?.value) sessionStorage.setItem(DRAFT, box().value);
      location.reload();
    } else if (!answers && !gone) {
      const note = document.createElement("p");
      note.id = "gone";
      note.setAttribute("role", "alert");
      note.textContent = "Marginalia does not answer. What you typed stays; the page is loaded again when it is back.";
      document.body.append(note);
    }
  };
  setInterval(() => document.hidden || lookForServer(), ASK_EVERY_MS);
  const bringDraftBack = () => {
    const draft = sessionStorage.getItem(DRAFT);
    if (!draft || !box()) return;
    sessionStorage.removeItem(DRAFT);
    box().value = draft;
    box().dispatchEvent(new Event("input", { bubbles: true }));
  };

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    delete body().dataset.side;
    if (matchMedia(NARROW).matches && body().dataset.margin === "open")
      document.querySelector("#show-prompt input")?.click();
  });

  // A conversation is written anew when anything in it changes. What was typed in it and not yet saved is put back, and
  // so is the focus; where the button is gone that had it, the thumb beside it gets it.
  const typed = new Map();
  let focused = [];
  const noteFocus = ({ target }) => {
    const { action, id } = target.closest("#turns [data-action], #judged [data-action]")?.dataset ?? {};
    const thumb = `.thumb[data-id="${id}"]`;
    if (target.dataset.unsaved !== undefined) focused = [`#${target.id}`];
    else focused = id ? [`[data-action="${action}"][data-id="${id}"]`, `${thumb}[aria-pressed="true"]`, thumb] : [];
  };
  document.addEventListener("focusin", noteFocus);
  document.addEventListener("pointerdown", noteFocus);
  document.addEventListener("input", ({ target }) => {
    if (target.dataset.unsaved !== undefined) typed.set(target.id, target.value);
  });
  document.addEventListener("click", ({ target }) => {
    const { action, id } = target.closest("[data-action]")?.dataset ?? {};
    if (action === "withdraw" || action === "close")
      ["comment", "better"].forEach((name) => typed.delete(`${name}-${id}`));
  });
  const bringWordsBack = () => {
    document.querySelectorAll("[data-unsaved]:not([data-seen])").forEach((field) => {
      field.dataset.seen = "";
      if (typed.has(field.id)) field.value = typed.get(field.id);
    });
    if (document.activeElement !== document.body) return;
    focused.map((place) => document.querySelector(place)).find(Boolean)?.focus();
  };

  const PLOTS = {
    curve: "Loss by step, two lines; the text above it says where each begins and ends",
    "layer-plot": "Parameters by layer, one bar each; the table below it has the numbers",
    growth: "Tokens read by turn, two lines; the text above it says where each ends",
    overtaking: "Cost by day, two lines; the text above it says where they cross",
    "path-plot": "Milliseconds by stage, one bar each; the table above it has the figures",
  };

  // Gradio's columns carry no roles, and its page no landmarks but one.
  const landmarks = () => {
    const side = document.getElementById("side");
    const margin = document.getElementById("margin");
    const log = document.getElementById("log");
    side?.setAttribute("role", "complementary");
    side?.setAttribute("aria-label", "Conversations and pages");
    margin?.setAttribute("role", "region");
    margin?.setAttribute("aria-label", "Exact prompt");
    if (log && !log.hasAttribute("role")) {
      // Not live: the reply would be read out token by token. The status line tells when it is complete.
      log.setAttribute("role", "log");
      log.setAttribute("aria-live", "off");
      log.setAttribute("aria-label", "Conversation");
      log.setAttribute("tabindex", "0");
      keepNewestInSight(log);
    }
    // A page without anything to press has to be reached, to be scrolled by keyboard.
    const toScroll = document.querySelector("#text.to-scroll");
    toScroll?.setAttribute("role", "region");
    toScroll?.setAttribute("aria-label", "About the model");
    toScroll?.setAttribute("tabindex", "0");
    bringWordsBack();
    // Each plot is one picture with a name: its points would be read out otherwise.
    for (const [plot, name] of Object.entries(PLOTS)) {
      const picture = document.querySelector(`#${plot} .vega-embed`);
      picture?.setAttribute("role", "img");
      picture?.setAttribute("aria-label", name);
    }
    const status = document.getElementById("status");
    status?.setAttribute("role", "status");
    status?.setAttribute("aria-live", "polite");
  };

  const keepNewestInSight = (log) => {
    let following = true;
    log.addEventListener("scroll", () => {
      following = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    });
    new MutationObserver(() => {
      // The welcome is read from its beginning, and so are drafts, which may fill more than the screen.
      if (!following || !log.querySelector(".turn")) return;
      const drafts = log.querySelector(".drafts");
      if (drafts) log.scrollTop += drafts.getBoundingClientRect().top - log.getBoundingClientRect().top;
      else log.scrollTop = log.scrollHeight;
    }).observe(log, { childList: true, subtree: true, characterData: true });
  };

  new MutationObserver(landmarks).observe(document.documentElement, { childList: true, subtree: true });
})();
