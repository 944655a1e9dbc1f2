"use strict";
(() => {
  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // Texts of strangers reach the page through textContent and setAttribute alone, as in the cards made by Python.
  const shotOf = (folder, [name, thumbnail, problem, whole, turn]) => {
    if (problem) return make("span", "blank", problem);
    const shot = make("button", "shot");
    shot.type = "button";
    if (whole) shot.dataset.whole = whole;
    if (turn) shot.dataset.turn = turn;
    const image = make("img");
    image.alt = name;
    image.loading = "lazy";
    image.decoding = "async";
    image.src = folder + thumbnail;
    shot.append(image);
    return shot;
  };
  const cardOf = (folder, [pictures, lines, source]) => {
    const card = make("div", pictures.length > 1 ? "card wide" : "card");
    if (pictures.length) {
      const shots = make("div", "shots");
      shots.append(...pictures.map((picture) => shotOf(folder, picture)));
      card.append(shots);
    }
    card.append(...lines.map((line, place) => make("p", place ? "" : "first", line)));
    if (source) {
      const link = make("a", "", "source");
      link.href = source;
      link.rel = "nofollow noopener noreferrer";
      const line = make("p");
      line.append(link);
      card.append(line);
    }
    return card;
  };

  const galleries = new Map();
  class Gallery {
    constructor(element) {
      this.cardsElement = element.querySelector(".cards");
      this.tools = element.querySelector(".tools");
      const told = JSON.parse(element.querySelector("script").textContent);
      Object.assign(this, { folder: told.folder, nOnPage: told.n_on_page, all: told.cards, cards: told.cards });
      this.at = 0;
      this.number = this.tools.querySelector(".number");
      this.filter = this.tools.querySelector(".filter");
      this.onPaper = element.querySelector(".on-paper");
      for (const button of this.tools.querySelectorAll("button")) {
        button.addEventListener("click", () => this.turn(button.dataset.to));
      }
      this.number.addEventListener("change", () => this.show(Number(this.number.value) - 1));
      this.filter.addEventListener("input", () => this.narrow());
      element.addEventListener("keydown", (event) => {
        if (event.target.tagName === "INPUT" || event.altKey || event.ctrlKey || event.metaKey) return;
        if (event.key === "ArrowLeft") this.turn("previous");
        else if (event.key === "ArrowRight") this.turn("next");
        else return;
        event.preventDefault();
        // The picture that had the keyboard is gone with its page.
        if (document.activeElement === document.body) this.cardsElement.focus({ preventScroll: true });
      });
      this.tools.hidden = false;
      this.tell();
    }
    get nPages() {
      return Math.max(1, Math.ceil(this.cards.length / this.nOnPage));
    }
    turn(to) {
      this.show({ first: 0, previous: this.at - 1, next: this.at + 1, last: this.nPages - 1 }[to]);
    }
    narrow() {
      // Joined when it is first asked for: most readers never filter.
      this.texts ??= this.all.map(([pictures, lines]) =>
        [...pictures.map(([name]) => name), ...lines].join("\n").toLowerCase());
      const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      this.cards = this.all.filter((_, place) => words.every((word) => this.texts[place].includes(word)));
      this.show(0);
    }
    show(page) {
      this.at = Math.min(Math.max(0, Math.trunc(page) || 0), this.nPages - 1);
      const first = this.at * this.nOnPage;
      const shown = this.cards.slice(first, first + this.nOnPage);
      this.cardsElement.replaceChildren(...shown.map((card) => cardOf(this.folder, card)));
      this.tell();
    }
    tell() {
      const first = this.at * this.nOnPage;
      const last = Math.min(first + this.nOnPage, this.cards.length);
      const n = (value) => value.toLocaleString("en");
      this.tools.querySelector(".place").textContent = this.cards.length
        ? `${n(first + 1)} to ${n(last)} of ${n(this.cards.length)}`
        : "no card has these words";
      this.onPaper.textContent = this.cards.length < this.all.length || last - first < this.cards.length
        ? `Printed: ${n(last - first)} of ${n(this.all.length)} cards, those that were on the screen; the page itself has all.`
        : "";
      this.tools.querySelector(".pages").textContent = `of ${n(this.nPages)}`;
      this.number.value = this.at + 1;
      this.number.max = this.nPages;
      for (const button of this.tools.querySelectorAll("button")) {
        const isBack = button.dataset.to === "first" || button.dataset.to === "previous";
        const isEnd = isBack ? this.at === 0 : this.at === this.nPages - 1;
        // A button that goes dead would take the keyboard's place with it.
        if (isEnd && button === document.activeElement) this.cardsElement.focus({ preventScroll: true });
        button.disabled = isEnd;
      }
    }
  }
  for (const element of document.querySelectorAll(".gallery.long")) {
    const gallery = new Gallery(element);
    galleries.set(gallery.cardsElement, gallery);
  }

  // One viewer for all pictures: the thumbnail at once, the whole picture where it lies below this page.
  const viewer = make("dialog", "viewer");
  viewer.setAttribute("aria-label", "Picture");
  const [stage, told, row] = [make("div", "stage"), make("div", "told"), make("div", "row")];
  const hint = make("span", "", "Arrow keys: previous and next; Escape closes");
  const [back, on, close] = ["Previous", "Next", "Close"].map((word) => {
    const button = make("button", "", word);
    button.type = "button";
    return button;
  });
  row.append(hint, back, on, close);
  viewer.append(stage, told, row);
  document.body.append(viewer);
  let current = null;

  const see = (shot) => {
    current = shot;
    const thumbnail = shot.querySelector("img");
    const image = make("img");
    image.alt = thumbnail.alt;
    image.src = thumbnail.src;
    stage.replaceChildren(image);
    const { whole, turn } = shot.dataset;
    if (whole) {
      const loading = make("img");
      loading.alt = thumbnail.alt;
      loading.addEventListener("load", () => {
        if (current !== shot) return;
        if (turn) {
          loading.className = Number(turn) % 180 ? "turned on-its-side" : "turned";
          // Open Images counts counterclockwise.
          loading.style.transform = `rotate(${-Number(turn)}deg)`;
        }
        stage.replaceChildren(loading);
      });
      loading.src = whole;
    }
    const lines = [...shot.closest(".card").querySelectorAll("p")].map((line) => line.cloneNode(true));
    told.replaceChildren(...lines);
    if (!viewer.open) viewer.showModal();
  };
  const step = (by) => {
    const cards = current.closest(".cards");
    // The folded cards of a short gallery follow those that are seen.
    const whole = current.closest(".gallery") ?? cards;
    let shots = [...whole.querySelectorAll(".shot")];
    let place = shots.indexOf(current) + by;
    const gallery = galleries.get(cards);
    if (gallery && (place < 0 || place >= shots.length)) {
      const before = gallery.at;
      gallery.turn(by < 0 ? "previous" : "next");
      shots = [...whole.querySelectorAll(".shot")];
      if (gallery.at === before) place -= by;
      else place = by < 0 ? shots.length - 1 : 0;
    }
    const wanted = shots[Math.min(Math.max(0, place), shots.length - 1)];
    if (wanted) see(wanted);
  };
  document.addEventListener("click", (event) => {
    const shot = event.target.closest(".shot");
    if (shot) see(shot);
    else if (event.target === viewer) viewer.close();
  });
  back.addEventListener("click", () => step(-1));
  on.addEventListener("click", () => step(1));
  close.addEventListener("click", () => viewer.close());
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
  });
  viewer.addEventListener("close", () => current?.focus());

  // The contents follow the reader.
  const links = new Map([...document.querySelectorAll("nav > ol > li > a")].map((link) => [link.hash.slice(1), link]));
  const chapters = [...document.querySelectorAll("main > section")];
  const follow = () => {
    const line = window.innerHeight / 3;
    let now = chapters[0];
    for (const chapter of chapters) if (chapter.getBoundingClientRect().top <= line) now = chapter;
    for (const [key, link] of links) {
      if (now && key === now.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  let isDue = false;
  document.addEventListener("scroll", () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => { isDue = false; follow(); });
  }, { passive: true });
  follow();

  // Who has no mouse scrolls a wide table or chart with the arrow keys: only what is wider than the page stops the tab.
  const reach = () => {
    for (const box of document.querySelectorAll(".scroll, .drawing")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  window.addEventListener("resize", reach);
  reach();

  // A printer neither scrolls nor opens anything; lists too long for paper stay closed, and say so.
  const MOST_ROWS_ON_PAPER = 100;
  const openedForPaper = [];
  window.addEventListener("beforeprint", () => {
    for (const image of document.querySelectorAll("img[loading=lazy]")) image.loading = "eager";
    for (const folded of document.querySelectorAll("details:not([open])")) {
      if (folded.querySelectorAll(":scope > .table tbody tr").length > MOST_ROWS_ON_PAPER) continue;
      folded.open = true;
      openedForPaper.push(folded);
    }
  });
  window.addEventListener("afterprint", () => {
    for (const folded of openedForPaper.splice(0)) folded.open = false;
  });
})();
