// The judging panel, in plain JavaScript on the globals of the FiftyOne App (1.22): no build step, no remote asset.
// Its state lives outside React, as the App unmounts all panels when its server goes away. In order: state, server,
// outbox, pictures, masks, answers, keys, components, style.
(() => {
  "use strict";
  const h = React.createElement;
  const { registerComponent, PluginComponentType } = window.__fop__;
  const PLUGIN = "@openimage-o/judge";
  const RETRY_MS = 1500;
  // An answer takes a tenth of a second to be stored: after this the annotator is told what is being waited for.
  const LATE_MS = 2000;
  // A request that hangs for ever would hold up all that follow; it is sent again, and stored once.
  const GIVE_UP_MS = 20000;
  const RELOAD_PAUSE_MS = 10000;
  // Nobody sees a picture and answers in less (simple visual reactions take about 200 ms): it is the second half of a
  // double click, or a bouncing key, meant for the picture before.
  const MIN_LOOK_MS = 150;
  // The session sends the candidate and three more: with all of them answered there is nothing to show.
  const MOST_UNSAVED = 3;
  const MOST_NOTE_CHARACTERS = 2000;
  const MOST_ZOOM = 16;
  const N_FOUND = 8;
  const N_KEPT_PICTURES = 80;
  // Evidence below this is none, and is not stretched until it looks like some.
  const LEAST_PEAK = 0.1;
  const MOST_DARKNESS = 0.8;
  // Dark blue, to be seen on night scenes too.
  const MASK_COLOUR = [16, 28, 84];
  const PNG_END = "IEND\xaeB`\x82";
  const WORDS = { o: "out", d: "difficult", s: "skip" };
  const SOURCES = { clip: "CLIP", classifier: "classifier", human: "human label" };
  const SOURCE_TITLES = {
    clip: "CLIP finds the picture similar to this class", classifier: "an ImageNet classifier finds this class",
    human: "a person labelled the picture so in Open Images",
  };

  // Else an advertisement opens, unseen behind the panel, and holds the focus.
  localStorage.setItem("fiftyone-enterprise-tooltip-seen", "true");

  // Whose page this is stands in the address that the link leads to. The App may rewrite that, so the tab remembers: in
  // one browser several annotators may have theirs, and each tab answers in the name that it shows.
  const NAME_KEY = "openimage-o/annotator";
  let ownName = new URLSearchParams(location.search).get("annotator") ?? sessionStorage.getItem(NAME_KEY);

  // ---- state

  const view = {
    state: null, catalogue: null, unsaved: [], held: null, trouble: "", refused: "", readyId: null, failedId: null,
    shownAt: 0, lit: null, maskedId: null, unmasked: null, isForgetful: false, overlay: null, overlayId: null, notes: {}, typed: "", chosen: 0, isLate: false, isAnswered: false,
  };
  const listeners = new Set();
  let datasetName = null;

  const show = (changes) => {
    Object.assign(view, changes);
    leaveOverlayOfAnother();
    listeners.forEach((listener) => listener());
    cover();
  };
  // What is typed or searched belongs to the picture at which it was begun. A note is kept for it.
  const leaveOverlayOfAnother = () => {
    if (!view.overlayId || candidate()?.image_id === view.overlayId) return;
    const notes = view.overlay === "note" ? { ...view.notes, [view.overlayId]: view.typed } : view.notes;
    Object.assign(view, { overlay: null, overlayId: null, notes });
  };

  // While the server is away the App takes the panel off and shows a welcome of its own, which tells nobody what
  // happened: this covers it.
  const sheet = document.body.appendChild(Object.assign(document.createElement("div"), { id: "oio-cover", hidden: true }));
  sheet.setAttribute("role", "alert");
  let hasBeenShown = false;
  const cover = () => {
    hasBeenShown ||= listeners.size > 0;
    sheet.hidden = listeners.size > 0 || !hasBeenShown;
    sheet.style.cssText = sheet.hidden ? "" : COVER_STYLE;
    const restart = "Start `annotate` again, and this page goes on by itself. If it does not, open the link that `annotate` prints.";
    const lines = [
      view.trouble || "The App has put the pictures away. Reload this page to go on.",
      view.unsaved.length ? `Keep this page open: ${waiting()} in it to be saved.` : "All your answers are saved.",
      view.trouble && !view.isAnswered ? restart : "",
    ];
    sheet.replaceChildren(...lines.filter(Boolean).map((line) => Object.assign(document.createElement("div"), { textContent: line })));
    sheet.firstChild.style.cssText = "font-size: 22px; font-weight: 600";
  };
  const COVER_STYLE = `position: fixed; inset: 0; z-index: 10001; display: flex; flex-direction: column; gap: 14px; justify-content: center;
    padding: 0 max(24px, calc(50vw - 340px)); background: #16181c; color: #f2f3f5; font: 17px/1.5 system-ui, sans-serif;`;
  const waiting = () => (view.unsaved.length === 1 ? "1 answer waits" : `${view.unsaved.length} answers wait`);

  const wait = (duration) => new Promise((resolve) => setTimeout(resolve, duration));
  const mediaUrl = (path) => `/media?filepath=${encodeURIComponent(path)}`;
  const isUndoing = () => view.unsaved.some((entry) => entry.operator === "undo_answer");
  const open = () => {
    const answered = new Set(view.unsaved.map((entry) => entry.params.image_id));
    return (view.state?.items ?? []).filter((item) => !answered.has(item.image_id));
  };
  // While an undo is under way the picture stays: what comes next is not known before the reply.
  const candidate = () => (isUndoing() ? view.held : open()[0] ?? null);
  const noteOf = (item) => view.notes[item.image_id] ?? item.note ?? "";

  // ---- server

  // An error with which the server itself refuses what this page asks.
  class Answered extends Error {}

  const call = async (operator, params) => {
    const late = setTimeout(() => show({ isLate: true }), LATE_MS);
    try {
      const reply = await fetch("/operators/execute", {
        method: "POST", headers: { "content-type": "application/json" }, signal: AbortSignal.timeout(GIVE_UP_MS),
        body: JSON.stringify({ operator_uri: `${PLUGIN}/${operator}`, dataset_name: datasetName, params: { annotator_id: ownName ?? undefined, ...params } }),
      });
      if (reply.status === 401) throw new Answered("you are no longer logged in: open the link that `annotate` printed last");
      const content = await reply.json();
      const error = content.error_message || content.error;
      if (!reply.ok || error) throw new Answered(String(error || reply.status).trim().split("\n").pop());
      return content.result;
    } finally {
      clearTimeout(late);
      if (view.isLate) show({ isLate: false });
    }
  };

  const callUntilAnswered = async (operator, params) => {
    for (;;) {
      try {
        const result = await call(operator, params);
        if (view.trouble) show({ trouble: "" });
        return result;
      } catch (error) {
        const isAnswered = error instanceof Answered;
        show({ isAnswered, trouble: isAnswered ? `Nothing is being saved: ${error.message}` : "The server does not answer; trying again." });
        await wait(RETRY_MS);
      }
    }
  };

  const accept = (state) => {
    show({ state, refused: state.refused ?? "", held: isUndoing() ? view.held : null });
    state.items.forEach(warm);
  };

  let isLoading = false;
  const load = async () => {
    if (isLoading) return;
    isLoading = true;
    const state = await callUntilAnswered("show_candidate", {});
    isLoading = false;
    ownName = state.annotator_id;
    sessionStorage.setItem(NAME_KEY, ownName);
    const stored = outbox.read(state.annotator_id);
    view.unsaved = stored;
    // The App may mount the panel twice: that an answer was refused must not be gone with the second reading.
    accept({ ...state, refused: view.refused });
    sendAll();
    if (!view.catalogue) show({ catalogue: await callUntilAnswered("show_catalogue", {}) });
  };

  // The App's page does not always find back when its server does: a fresh one does, and sends what waits. Not again
  // and again, where the panel goes away for another reason.
  const comeBack = async () => {
    await callUntilAnswered("show_candidate", {});
    const last = Number(sessionStorage.getItem("openimage-o/reloaded") ?? 0);
    if (listeners.size > 0) return;
    if (Date.now() - last < RELOAD_PAUSE_MS) {
      cover();
      return;
    }
    sessionStorage.setItem("openimage-o/reloaded", Date.now());
    location.reload();
  };

  // ---- outbox: answers that the server has not confirmed; in localStorage, so that they outlive a reload, and mostly a
  // crash (browsers write it to disk when they find the time: saved is what the server has)

  const outbox = {
    // What identifies annotator and workspace, as one browser may serve several.
    key: (annotatorId) => `openimage-o/outbox/${datasetName}/${annotatorId}`,
    read: (annotatorId) => JSON.parse(localStorage.getItem(outbox.key(annotatorId)) ?? "[]"),
    write: (entries) => localStorage.setItem(outbox.key(view.state.annotator_id), JSON.stringify(entries)),
    add: (entry) => outbox.write([...outbox.read(view.state.annotator_id), entry]),
    // By its id, as a second tab of the same annotator may have added or removed others.
    remove: (entry) => outbox.write(
      outbox.read(view.state.annotator_id).filter((kept) => kept.params.decision_id !== entry.params.decision_id)),
  };

  let isSending = false;
  const sendAll = async () => {
    if (isSending) return;
    isSending = true;
    while (view.unsaved.length) {
      const entry = view.unsaved[0];
      // It carries its decision_id, so that a repetition is stored once.
      const state = await callUntilAnswered(entry.operator, entry.params);
      outbox.remove(entry);
      view.unsaved = view.unsaved.slice(1);
      // A refusal stays on screen until an answer is stored again, not only until the reply after it.
      accept(state.refused || !view.refused || entry.isRetry ? state : { ...state, refused: view.refused });
    }
    isSending = false;
  };

  const submit = (operator, params) => {
    const entry = { operator, params: { decision_id: newId(), ...params } };
    try {
      outbox.add(entry);
    } catch (error) {
      show({ refused: `this browser keeps nothing more (${error.message})` });
      return;
    }
    const held = candidate();
    // What follows a refusal on screen is a new try.
    entry.isRetry = view.refused !== "";
    view.unsaved = [...view.unsaved, entry];
    show({ held });
    sendAll();
  };

  // crypto.randomUUID is there only on the loopback and under TLS.
  const newId = () =>
    Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

  // ---- pictures

  const pictures = new Map();
  const pictureOf = (path) => {
    if (!pictures.has(path)) {
      const picture = new Image();
      picture.draggable = false;
      picture.src = mediaUrl(path);
      picture.decode().catch(() => pictures.delete(path));
      pictures.set(path, picture);
      if (pictures.size > N_KEPT_PICTURES) pictures.delete(pictures.keys().next().value);
    }
    return pictures.get(path);
  };
  const warm = (item) => {
    pictureOf(item.path);
    item.classes.forEach((shown) => shown.example_path && pictureOf(shown.example_path));
  };

  const zoom = { scale: 1, x: 0, y: 0, turn: 0 };
  const applyZoom = () => {
    const sheet = document.querySelector("#oio-sheet");
    if (!sheet) return;
    const stage = sheet.parentElement;
    const isAcross = zoom.turn % 180 !== 0;
    const fit = isAcross ? Math.min(stage.clientWidth / sheet.offsetHeight, stage.clientHeight / sheet.offsetWidth) : 1;
    sheet.style.transform = `translate(${zoom.x}px, ${zoom.y}px) rotate(${zoom.turn}deg) scale(${zoom.scale * fit})`;
  };
  const zoomTo = (changes) => {
    Object.assign(zoom, changes);
    applyZoom();
  };
  const resetZoom = () => zoomTo({ scale: 1, x: 0, y: 0, turn: 0 });
  // The point (x, y), from the middle of the stage, stays where it is.
  const zoomBy = (factor, x = 0, y = 0) => {
    const scale = Math.min(MOST_ZOOM, Math.max(1, zoom.scale * factor));
    const grown = scale / zoom.scale;
    zoomTo(scale === 1 ? { scale, x: 0, y: 0 } : { scale, x: x - (x - zoom.x) * grown, y: y - (y - zoom.y) * grown });
  };
  const pan = (x, y) => zoom.scale > 1 && zoomTo({ x: zoom.x + x, y: zoom.y + y });

  // ---- masks: where a class might be; asked for only when they are wanted, as most pictures are judged without

  const masks = new Map();
  // Class indices by picture whose masks came, and cannot be drawn.
  const undrawable = new Map();
  const toggleMasks = async () => {
    const item = candidate();
    if (!item?.has_masks) return;
    const imageId = item.image_id;
    show({ maskedId: view.maskedId === imageId ? null : imageId, unmasked: null });
    if (view.maskedId !== imageId || masks.has(imageId)) return;
    try {
      const reply = await call("show_masks", { image_id: imageId });
      masks.set(imageId, reply.masks);
      undrawable.delete(imageId);
      if (masks.size > N_KEPT_PICTURES) masks.delete(masks.keys().next().value);
      show({});
    } catch (error) {
      // By now another picture may be there, with its own masks.
      // There is one line for it: of a file its name must do.
      const said = error.message.replace(/\/([^\s/:]+\/)+/g, "");
      const why = error instanceof Answered ? `The masks cannot be shown: ${said}` : "The masks could not be fetched";
      if (view.maskedId === imageId) show({ maskedId: null, unmasked: { imageId, why } });
    }
  };
  // Of the card that is pointed at, be there one or not: never another's in its place. Else of the first that has one.
  const maskOf = (item) => {
    const found = (view.maskedId === item.image_id && masks.get(item.image_id)) || [];
    return view.lit === null ? found[0] : found.find((mask) => mask.class_index === view.lit);
  };
  // All but the evidence is darkened, so that what is to be judged keeps its colours. As a share of the peak: weak
  // evidence is to be seen too, and the caption says how weak it is.
  const paintMask = async (canvas, imageId, mask) => {
    const picture = Object.assign(new Image(), { src: `data:image/png;base64,${mask.png}` });
    try {
      // Of a picture that breaks off, browsers draw what there is.
      if (!atob(mask.png).endsWith(PNG_END)) throw new Error("the PNG breaks off");
      await picture.decode();
    } catch {
      undrawable.set(imageId, new Set([...(undrawable.get(imageId) ?? []), mask.class_index]));
      show({});
      return;
    }
    Object.assign(canvas, { width: picture.naturalWidth, height: picture.naturalHeight });
    const pen = canvas.getContext("2d");
    pen.drawImage(picture, 0, 0);
    const cells = pen.getImageData(0, 0, canvas.width, canvas.height);
    const full = 255 * Math.max(mask.peak, LEAST_PEAK);
    for (let at = 0; at < cells.data.length; at += 4) {
      const darkness = MOST_DARKNESS * (1 - Math.min(1, cells.data[at] / full));
      cells.data.set([...MASK_COLOUR, 255 * darkness], at);
    }
    pen.putImageData(cells, 0, 0);
    canvas.dataset.classIndex = mask.class_index;
    if (canvas.isConnected) noteSeen(imageId, mask.class_index);
  };
  // Which masks were drawn over a picture goes into the log with the answer. The tab keeps it, so that a reload in
  // between does not hide it, and keeps it on, as an answer may be taken back. That masks were opened at all the server
  // knows by itself.
  const seen = new Map();
  const seenKey = (imageId) => `openimage-o/masks-seen/${datasetName}/${ownName}/${imageId}`;
  const seenOf = (imageId) => seen.get(imageId) ?? JSON.parse(sessionStorage.getItem(seenKey(imageId)) ?? "[]");
  const noteSeen = (imageId, classIndex) => {
    seen.set(imageId, [...new Set([...seenOf(imageId), classIndex])]);
    try {
      sessionStorage.setItem(seenKey(imageId), JSON.stringify(seen.get(imageId)));
    } catch {
      show({ isForgetful: true });
    }
  };

  // ---- answers

  // The image is named by whoever draws the button: a late click cannot judge the wrong picture.
  const answer = (imageId, word, classIndex = null) => {
    const item = candidate();
    if (!item || item.image_id !== imageId || isUndoing() || view.unsaved.length >= MOST_UNSAVED) return false;
    if (view.readyId !== imageId && !(view.failedId === imageId && word === "skip")) return false;
    const look = performance.now() - view.shownAt;
    if (look < MIN_LOOK_MS) return false;
    const note = noteOf(item).trim();
    const params = { image_id: imageId, answer: word, class_index: classIndex, seconds: Math.round(look) / 1000, masks_seen: seenOf(imageId) };
    submit("store_answer", note ? { ...params, note } : params);
    return true;
  };

  const undoable = () => view.unsaved.at(-1)?.params.image_id ?? view.state?.undoable.at(-1);
  const undo = () => {
    if (undoable() && !isUndoing()) submit("undo_answer", { image_id: undoable(), seconds: 0 });
  };

  const openOverlay = (name) => () => {
    const overlayId = name === "guideline" ? null : candidate()?.image_id;
    if (overlayId !== undefined) show({ overlay: name, overlayId, typed: name === "note" ? noteOf(candidate()) : "", chosen: 0 });
  };
  const closeOverlay = () => {
    show({ overlay: null, overlayId: null });
    document.querySelector("#oio-judge")?.focus();
  };
  const saveNote = () => {
    show({ notes: { ...view.notes, [view.overlayId]: view.typed } });
    closeOverlay();
  };
  // The answer brings the next picture, which closes the search.
  const chooseFound = (found) => found && answer(view.overlayId, "in", found.class_index);

  const found = () => {
    const words = view.typed.trim().toLowerCase();
    if (!words) return [];
    // 0: a name begins so, 1: a word of it does, 2: it is somewhere in it.
    const place = (known) => {
      const name = known.name.toLowerCase();
      if (name.startsWith(words) || known.wnid === words || String(known.class_index) === words) return 0;
      if (name.includes(` ${words}`)) return 1;
      return name.includes(words) || known.wnid?.startsWith(words) ? 2 : null;
    };
    return (view.catalogue?.classes ?? []).map((known) => [place(known), known]).filter(([rank]) => rank !== null)
      .sort((one, other) => one[0] - other[0] || one[1].class_index - other[1].class_index)
      .slice(0, N_FOUND).map(([, known]) => known);
  };

  // ---- keys

  let heldIn = null;
  const onKey = (event, panel) => {
    if (!panel?.isConnected) return;
    // The App has keys of its own, on the same letters.
    event.stopImmediatePropagation();
    const isTyping = Boolean(event.target.closest?.("input, textarea, select, [contenteditable=true]"));
    if (isHeld(event, isTyping)) event.preventDefault();
    else if (view.overlay) onOverlayKey(event);
    else if (!isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const act = actionOf(keyOf(event));
      if (!act) return;
      event.preventDefault();
      act();
    }
  };
  // A held key answers once: it neither goes on at the next picture, nor presses the button that has the focus again, nor
  // types into what it has just opened.
  const isHeld = (event, isTyping) => {
    if (!event.repeat) heldIn = view.overlay;
    const isMoving = event.key === "Tab" || event.key.startsWith("Arrow");
    return event.repeat && (heldIn !== view.overlay || event.key === "Enter" || !(isTyping || isMoving));
  };

  // What the key says where it says something here; else the place of the key, for keyboards that have other signs there:
  // digits need Shift on a French one, and a Cyrillic or Greek one has no Latin letters.
  const keyOf = (event) => {
    const [, letter, digit] = event.code.match(/^(?:Key([A-Z])|Digit([0-9]))$/) ?? [];
    const key = event.key.toLowerCase();
    if (digit && !event.shiftKey) return digit;
    if (key in ALWAYS || /^[a-z0-9]$/.test(key)) return key;
    return letter?.toLowerCase() ?? { Slash: "/" }[event.code] ?? key;
  };

  const actionOf = (key) => {
    if (key in ALWAYS) return ALWAYS[key];
    const item = candidate();
    if (!item) return null;
    if (key in WORDS) return () => answer(item.image_id, WORDS[key]);
    if (!/^[0-9]$/.test(key)) return null;
    const shown = item.classes[key === "0" ? 9 : Number(key) - 1];
    return () => shown && answer(item.image_id, "in", shown.class_index);
  };
  const ALWAYS = {
    u: undo, n: openOverlay("note"), "/": openOverlay("search"), g: openOverlay("guideline"), "?": openOverlay("guideline"),
    m: toggleMasks, z: resetZoom, r: () => zoomTo({ turn: (zoom.turn + 90) % 360, x: 0, y: 0 }), "+": () => zoomBy(1.4), "-": () => zoomBy(1 / 1.4),
    arrowleft: () => pan(60, 0), arrowright: () => pan(-60, 0), arrowup: () => pan(0, 60), arrowdown: () => pan(0, -60),
  };

  const onOverlayKey = (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    const isSearch = view.overlay === "search";
    const isDone = view.overlay === "guideline" && ["g", "?", "Enter"].includes(event.key);
    if (event.key === "Escape" || isDone) closeOverlay();
    else if (isSearch && event.key in steps) {
      const last = Math.max(0, found().length - 1);
      show({ chosen: Math.min(last, Math.max(0, view.chosen + steps[event.key])) });
    } else if (isSearch && event.key === "Enter" && !event.isComposing) chooseFound(found()[view.chosen]);
    else if (view.overlay === "note" && event.key === "Enter" && !event.shiftKey && !event.isComposing) saveNote();
    else return;
    event.preventDefault();
  };

  // ---- components

  // Open Images' rotation is of the stored pixels, counterclockwise, and takes the place of the EXIF orientation.
  const place = (picture, item) => {
    const isSideways = Math.abs(item.rotation_deg) % 180 === 90;
    picture.className = isSideways ? "oio-sideways" : "";
    picture.style.imageOrientation = item.rotation_deg ? "none" : "from-image";
    picture.style.transform = `translate(-50%, -50%) rotate(${-item.rotation_deg}deg)`;
  };

  const Stage = ({ item }) => {
    const slot = React.useRef(null);
    const stage = React.useRef(null);
    React.useLayoutEffect(() => {
      let isCurrent = true;
      const attempt = () => {
        const picture = pictureOf(item.path);
        Object.assign(picture, { id: "oio-picture", alt: `candidate ${item.image_id}` });
        picture.dataset.imageId = item.image_id;
        place(picture, item);
        slot.current.replaceChildren(picture);
        // Two frames on, what was decoded is on the screen.
        picture.decode().then(() => requestAnimationFrame(() => requestAnimationFrame(() =>
          isCurrent && show({ readyId: item.image_id, failedId: null, shownAt: performance.now() }))),
        () => {
          if (!isCurrent) return;
          pictures.delete(item.path);
          show({ failedId: item.image_id });
          setTimeout(() => isCurrent && attempt(), RETRY_MS);
        });
      };
      resetZoom();
      attempt();
      return () => {
        isCurrent = false;
        Object.assign(view, { readyId: null, failedId: null, lit: null });
      };
    }, [item.image_id]);
    React.useEffect(() => {
      // React's own wheel listener is passive: the page would scroll as well.
      const onWheel = (event) => {
        event.preventDefault();
        const frame = stage.current.getBoundingClientRect();
        zoomBy(1.2 ** (-event.deltaY / 100), event.clientX - frame.left - frame.width / 2, event.clientY - frame.top - frame.height / 2);
      };
      const onResize = new ResizeObserver(applyZoom);
      stage.current.addEventListener("wheel", onWheel, { passive: false });
      onResize.observe(stage.current);
      return () => onResize.disconnect();
    }, []);
    const mask = maskOf(item);
    const lit = !mask && item.classes.find((shown) => shown.class_index === view.lit)?.box;
    const percent = (share) => `${100 * share}%`;
    return h("div", {
      className: "oio-stage", ref: stage, onDoubleClick: resetZoom,
      onPointerDown: (event) => event.currentTarget.setPointerCapture(event.pointerId),
      onPointerMove: (event) => event.buttons === 1 && pan(event.movementX, event.movementY),
    },
      h("div", { id: "oio-sheet", style: { "--ratio": item.width_px / item.height_px } },
        h("div", { ref: slot, className: "oio-slot" }),
        mask && h(Mask, { key: `${item.image_id}/${mask.class_index}`, imageId: item.image_id, mask }),
        lit && h("div", { id: "oio-box", style: {
          left: percent(lit[0]), top: percent(lit[1]), width: percent(lit[2] - lit[0]), height: percent(lit[3] - lit[1]) } })));
  };

  const Mask = ({ imageId, mask }) => {
    const canvas = React.useRef(null);
    React.useLayoutEffect(() => void paintMask(canvas.current, imageId, mask), [mask]);
    return h("canvas", { id: "oio-mask", ref: canvas });
  };
  // Above the picture and not on it, as a corner is where small objects are; and always there, also at a picture without
  // masks among others that have some, so that nothing moves.
  const Where = ({ item }) =>
    h("div", { id: "oio-where", role: "status" }, h("kbd", null, "M"), h("span", { id: "oio-where-text", title: whereText(item) }, whereText(item)));
  const whereText = (item) => maskText(item) + (view.isForgetful ? " This browser keeps nothing more: after a reload, which masks you saw is forgotten." : "");
  const maskText = (item) => {
    if (!item.has_masks) return "There are no masks of this picture.";
    if (view.unmasked?.imageId === item.image_id) return `${view.unmasked.why}; M asks again.`;
    if (view.maskedId !== item.image_id) return "Where might a class be? A computer's guess; whether you look is stored with your answer.";
    if (!masks.has(item.image_id)) return "Fetching the masks …";
    const mask = maskOf(item);
    const name = (classIndex) => item.classes.find((shown) => shown.class_index === classIndex)?.name;
    if (!mask) return view.lit === null ? "There are no masks of this picture any more." : `There is no mask of ${name(view.lit)}.`;
    if (undrawable.get(item.image_id)?.has(mask.class_index)) return `The mask of ${name(mask.class_index)} is damaged and cannot be drawn.`;
    const area = mask.area_share > 0 ? `, on ${(100 * mask.area_share).toFixed(mask.area_share < 0.1 ? 1 : 0)} % of the picture` : "";
    return `Where might it be: ${name(mask.class_index)}. Evidence ${mask.peak.toFixed(2)} of 1${area}`;
  };

  const light = (classIndex) => ({
    onMouseEnter: () => show({ lit: classIndex }), onMouseLeave: () => show({ lit: null }),
    onFocus: () => show({ lit: classIndex }), onBlur: () => show({ lit: null }),
  });

  const ClassCard = ({ imageId, shown, number, isMasked }) =>
    h("button", {
      className: isMasked ? "oio-card oio-masked" : "oio-card", "data-class-index": shown.class_index, title: [shown.name, shown.wnid].filter(Boolean).join(" · "),
      onClick: () => answer(imageId, "in", shown.class_index), ...light(shown.class_index),
    },
      shown.example_path && h("img", { src: mediaUrl(shown.example_path), alt: "", draggable: false }),
      h("span", { className: "oio-caption" },
        h("span", { className: "oio-name" }, h("kbd", null, number % 10), " ", shown.name),
        h("span", { className: "oio-marks" },
          h("span", { className: "oio-similarity", title: "similarity" }, shown.similarity.toFixed(2)),
          shown.source && h("span", { className: `oio-mark oio-${shown.source}`, title: SOURCE_TITLES[shown.source] },
            SOURCES[shown.source] ?? shown.source),
          shown.box && h("span", { className: "oio-mark oio-tile", title: "in a part of the picture: shown while this card is pointed at" }, "tile"))));

  // Only in the queue of disputes does the session send any.
  const Opinions = ({ item }) =>
    h("div", { className: "oio-opinions", tabIndex: 0, "aria-label": "answers of the annotators" }, h("table", null,
      h("thead", null, h("tr", null, ["annotator", "answer", "class", "note", "s"].map((head) => h("th", { key: head }, head)))),
      h("tbody", null, item.answers.map((given, position) => h("tr", { key: `${item.image_id}/${position}` },
        h("td", null, given.annotator_id), h("td", null, given.answer), h("td", null, given.class_name ?? ""),
        h("td", null, given.note), h("td", null, given.seconds.toFixed(1)))))));

  const Progress = ({ state }) => {
    const done = state.n_total - state.n_left;
    const next = open().slice(1, 3);
    const pace = state.pace_s === null ? "" : ` · ${state.pace_s.toFixed(1)} s each`;
    const saving = view.unsaved.length ? `${view.unsaved.length} being saved` : "all saved";
    return h("div", { className: "oio-top" },
      h("strong", null, state.annotator_id), h("span", { className: "oio-queue" }, state.queue),
      h("div", { className: "oio-bar" }, h("div", { style: { width: `${(100 * done) / Math.max(1, state.n_total)}%` } })),
      h("span", { id: "oio-progress" }, `${done} of ${state.n_total} done · ${state.n_answered} in this session${pace}`),
      h("span", { id: "oio-team" }, `team: ${state.team.n_done} of ${state.team.n_total} · ${state.team.n_annotators} annotating`),
      h("span", { id: "oio-saving", "data-unsaved": view.unsaved.length }, saving),
      next.length > 0 && h("span", { className: "oio-next" }, "next", next.map((item) => h("img", {
        key: item.image_id, src: mediaUrl(item.path), alt: "", draggable: false,
        style: item.rotation_deg ? { imageOrientation: "none", transform: `rotate(${-item.rotation_deg}deg)` } : {} }))));
  };

  const Answers = ({ item }) => {
    const imageId = item?.image_id;
    const button = (key, name, label, act, isEnabled, more) =>
      h("button", { id: `oio-${name}`, className: "oio-answer", disabled: !isEnabled, onClick: act, ...more }, h("kbd", null, key), ` ${label}`);
    return h("div", { className: "oio-answers" },
      button("O", "out", `Out: none of ${view.catalogue ? `the ${view.catalogue.classes.length}` : "all"} classes`, () => answer(imageId, "out"), imageId),
      button("/", "search", "Another class", openOverlay("search"), imageId),
      button("D", "difficult", "Difficult", () => answer(imageId, "difficult"), imageId),
      button("S", "skip", "Skip", () => answer(imageId, "skip"), imageId),
      button("U", "undo", "Undo", undo, undoable() && !isUndoing()),
      view.state.offers_masks && button("M", "masks", "Where?", toggleMasks, item?.has_masks, { "aria-pressed": Boolean(imageId) && view.maskedId === imageId }),
      button("N", "note", item && noteOf(item) ? "Note ✓" : "Note", openOverlay("note"), imageId),
      button("G", "guideline", "Guideline", openOverlay("guideline"), true));
  };

  const messageOf = (item) => {
    if (view.refused) return `Not saved: ${view.refused}`;
    const isFull = isUndoing() || view.unsaved.length >= MOST_UNSAVED;
    const blocked = isFull ? " Keys answer nothing until it has stored them." : "";
    const kept = view.unsaved.length ? ` Keep this page open: ${waiting()} in it to be saved.${blocked}` : "";
    if (view.trouble) return view.trouble + kept;
    if (view.isLate) return `Waiting for the server.${kept}`;
    return item && view.failedId === item.image_id ? "This picture cannot be shown: skip it, or wait." : "";
  };
  // Over the picture, so that nothing moves under the pointer; in an open dialog, which lies above all else, once more.
  const Message = ({ item }) => messageOf(item) && h("div", { className: "oio-message", role: "alert" }, messageOf(item));

  const Overlay = ({ title, hint, children }) =>
    h("dialog", { className: "oio-overlay", "aria-label": title, ref: (dialog) => dialog && !dialog.open && dialog.showModal(),
      onClick: (event) => event.target === event.currentTarget && closeOverlay() },
      h("div", { className: "oio-sheet-of-paper" }, h(Message, { item: candidate() }), h("h2", null, title), children, h("p", { className: "oio-hint" }, hint)));

  const Search = () =>
    h(Overlay, { title: "Which class is it?", hint: "↑ ↓ choose · Enter answers \"in\" with it · Escape closes" },
      h("input", { id: "oio-search-text", autoFocus: true, value: view.typed, placeholder: "name, WordNet id or index", "aria-label": "class",
        onChange: (event) => show({ typed: event.target.value, chosen: 0 }) }),
      h("div", { role: "listbox", className: "oio-found" }, found().map((known, position) =>
        h("button", { key: known.class_index, role: "option", "aria-selected": position === view.chosen, className: "oio-hit",
          "data-class-index": known.class_index, onClick: () => chooseFound(known), onFocus: () => show({ chosen: position }) },
          known.example_path ? h("img", { src: mediaUrl(known.example_path), alt: "" }) : h("span", null),
          h("span", null, known.name), h("small", null, known.wnid ?? ""))),
        view.typed.trim() && !found().length && h("p", null, "No class is named so.")));

  const Note = () =>
    h(Overlay, { title: "Note on this picture", hint: "Enter keeps it: it is stored with your answer · Shift+Enter new line · Escape leaves it as it was" },
      h("textarea", { id: "oio-note-text", autoFocus: true, rows: 5, value: view.typed, maxLength: MOST_NOTE_CHARACTERS, "aria-label": "note",
        onChange: (event) => show({ typed: event.target.value }) }));

  // Headings, lists and paragraphs of Markdown; as text, so that no markup of the file becomes markup of the page.
  const Guideline = () =>
    h(Overlay, { title: view.state?.guideline ?? "Guideline", hint: "Escape or G closes" },
      h("div", { className: "oio-guideline", tabIndex: 0 }, (view.catalogue?.guideline_text ?? "").split(/\n{2,}/).map((block, position) => {
        const text = (line) => line.replace(/\*\*|`/g, "");
        const heading = block.match(/^#+ (.*)/);
        if (heading) return h("h3", { key: position }, text(heading[1]));
        const lines = block.split(/\n(?=[-*] )/);
        if (!/^[-*] /.test(block)) return h("p", { key: position }, text(block));
        return h("ul", { key: position }, lines.map((line, row) => h("li", { key: row }, text(line.replace(/^[-*] /, "")))));
      })));

  const OVERLAYS = { search: Search, note: Note, guideline: Guideline };

  const Judge = () => {
    const [, redraw] = React.useReducer((count) => count + 1, 0);
    const panel = React.useRef(null);
    datasetName = recoil.useRecoilValue(window.__fos__.datasetName);
    React.useEffect(() => {
      const listenToKeys = (event) => onKey(event, panel.current);
      const app = document.querySelector("#root");
      // What is covered must not be reached by the Tab key either.
      app.inert = true;
      listeners.add(redraw);
      window.addEventListener("keydown", listenToKeys, true);
      panel.current.focus();
      load();
      return () => {
        app.inert = false;
        listeners.delete(redraw);
        window.removeEventListener("keydown", listenToKeys, true);
        // Most likely the server is gone: this says so, and when it is back.
        comeBack();
      };
    }, []);
    const { state } = view;
    const item = state && candidate();
    const masked = item && maskOf(item)?.class_index;
    // Over the App's header and tabs, which lead to nothing that an annotator may use: the room is for the picture.
    return ReactDOM.createPortal(
      h("div", { className: "oio-panel", ref: panel, id: "oio-judge", tabIndex: -1, "data-image-id": item?.image_id ?? "", "data-ready": Boolean(item) && view.readyId === item.image_id },
        h("style", null, STYLE),
        state && h(Progress, { state }),
        h("div", { className: "oio-middle" },
          item && h("div", { className: "oio-left" }, state.offers_masks && h(Where, { item }), h(Stage, { item })),
          item && h("div", { className: "oio-side" },
            item.answers.length > 0 && h(Opinions, { item }),
            // The key holds the candidate: cards of the picture before must never stay on screen.
            h("div", { className: "oio-cards" }, item.classes.map((shown, position) =>
              h(ClassCard, { key: `${item.image_id}/${position}`, imageId: item.image_id, shown, number: position + 1,
                isMasked: shown.class_index === masked })))),
          state && !item && h("div", { className: "oio-done", "data-is-all": state.n_left === 0 && !view.unsaved.length },
            view.unsaved.length || state.n_left ? "Waiting for the server …" : `All ${state.n_total} pictures are done. Thank you, ${state.annotator_id}.`),
          h(Message, { item })),
        state && h(Answers, { item }),
        view.overlay && h(OVERLAYS[view.overlay])), document.body);
  };

  // ---- style

  const STYLE = `
    .oio-panel { position: fixed; inset: 0; z-index: 10000; display: flex; flex-direction: column; gap: 8px; box-sizing: border-box; padding: 10px 12px;
      background: #16181c; color: #f2f3f5; font: 14px/1.35 system-ui, sans-serif; outline: none; }
    .oio-panel button { font: inherit; color: inherit; background: #2a2e35; border: 1px solid #6a717d; border-radius: 6px; cursor: pointer; }
    .oio-panel button:hover:enabled { border-color: #ff9f5a; }
    .oio-panel .oio-masked { border-color: #ff9f5a; } .oio-panel button[aria-pressed=true] { border-color: #ff9f5a; background: #4a3424; }
    .oio-panel :focus-visible { outline: 3px solid #ff9f5a; outline-offset: 1px; }
    .oio-panel:focus-visible { outline: none; }
    .oio-panel button:disabled { color: #9aa1ac; border-color: #3a3f47; cursor: default; }
    .oio-panel kbd { display: inline-block; min-width: 1.3em; padding: 0 3px; border-radius: 4px; background: #f2f3f5; color: #16181c;
      font: 600 12px/1.5 system-ui, sans-serif; text-align: center; }
    .oio-top { display: flex; align-items: center; gap: 12px; min-height: 34px; white-space: nowrap; }
    .oio-queue { padding: 1px 8px; border-radius: 9px; background: #2a2e35; color: #c3c8d0; }
    .oio-bar { flex: 1; min-width: 30px; height: 6px; border-radius: 3px; background: #353a42; overflow: hidden; }
    .oio-bar div { height: 100%; background: #ff9f5a; }
    .oio-top #oio-team, .oio-next { color: #c3c8d0; }
    #oio-saving { min-width: 7.5em; text-align: center; color: #8fd6ab; }
    #oio-saving:not([data-unsaved="0"]) { color: #ffc79c; }
    @media (max-width: 1150px) { .oio-next { display: none !important; } }
    .oio-next { display: flex; align-items: center; gap: 6px; }
    .oio-next img { width: 44px; height: 33px; object-fit: contain; border-radius: 3px; }
    .oio-message { padding: 8px 12px; border-radius: 6px; background: #7a1f1f; color: #fff; overflow-wrap: anywhere; }
    .oio-middle { position: relative; flex: 1; min-height: 0; display: flex; gap: 10px; }
    .oio-middle .oio-message { position: absolute; left: 8px; bottom: 8px; max-width: 55%; box-shadow: 0 0 0 1px #fff; pointer-events: none; }
    .oio-left { flex: 3; min-width: 0; display: flex; flex-direction: column; gap: 6px; }
    #oio-where { display: flex; align-items: baseline; gap: 8px; padding: 0 2px; color: #c3c8d0; }
    #oio-where-text { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
    .oio-stage { flex: 1; min-height: 0; display: grid; place-items: center; container-type: size; background: #000; border-radius: 6px;
      overflow: hidden; touch-action: none; }
    #oio-sheet { position: relative; width: min(100cqw, calc(100cqh * var(--ratio))); aspect-ratio: var(--ratio); }
    .oio-slot { position: absolute; inset: 0; container-type: size; }
    /* The App's own style holds pictures to the width of their parent, which a sideways one exceeds before it is turned. */
    .oio-slot img { position: absolute; left: 50%; top: 50%; width: 100cqw; height: 100cqh; max-width: none; object-fit: contain; }
    .oio-slot img.oio-sideways { width: 100cqh; height: 100cqw; }
    #oio-box { position: absolute; box-sizing: border-box; border: 3px solid #ff9f5a; box-shadow: 0 0 0 2px #000, 0 0 0 9999px rgba(0, 0, 0, 0.35);
      pointer-events: none; }
    #oio-mask { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
    .oio-side { flex: 2; min-width: 430px; max-width: 900px; min-height: 0; display: flex; flex-direction: column; gap: 6px; }
    .oio-cards { flex: 1; min-height: 0; display: grid; grid-template-columns: 1fr 1fr; grid-template-rows: repeat(5, minmax(0, 1fr)); gap: 6px; }
    .oio-card { display: flex; gap: 8px; min-width: 0; min-height: 0; padding: 4px; overflow: hidden; text-align: left; container-type: size; }
    .oio-card img { flex: 0 0 48%; min-width: 0; height: 100%; object-fit: contain; }
    .oio-caption { flex: 1; min-width: 0; height: 100%; display: flex; flex-direction: column; justify-content: space-between; gap: 2px; padding: 2px; }
    .oio-name { overflow: hidden; overflow-wrap: anywhere; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4; flex-shrink: 0; }
    .oio-marks { display: flex; flex-wrap: wrap; align-items: center; gap: 2px 4px; font-size: 12px; }
    /* Whole lines: what does not fit stands in the card's title. */
    @container (max-height: 7.9em) { .oio-name { -webkit-line-clamp: 3; } }
    @container (max-height: 7em) { .oio-name { -webkit-line-clamp: 2; } }
    @container (max-height: 5.8em) { .oio-card img { flex-basis: 30%; } .oio-marks { flex-wrap: nowrap; } }
    @container (max-height: 4em) { .oio-name { -webkit-line-clamp: 1; } }
    .oio-similarity { font-variant-numeric: tabular-nums; color: #c3c8d0; }
    .oio-mark { padding: 0 5px; border-radius: 8px; background: #3b414b; color: #f2f3f5; white-space: nowrap; }
    .oio-mark.oio-human { background: #1d4f7c; } .oio-mark.oio-classifier { background: #57407f; } .oio-mark.oio-tile { background: #ff9f5a; color: #16181c; }
    .oio-opinions { flex-shrink: 0; max-height: 28%; overflow: auto; border: 1px solid #6a717d; border-radius: 6px; }
    .oio-opinions table { width: 100%; border-collapse: collapse; } .oio-opinions th { text-align: left; color: #c3c8d0; font-weight: 500; }
    .oio-opinions th, .oio-opinions td { padding: 3px 8px; border-bottom: 1px solid #353a42; vertical-align: top; }
    .oio-opinions td:nth-child(4) { width: 100%; overflow-wrap: anywhere; white-space: pre-line; }
    .oio-opinions td:not(:nth-child(4)) { max-width: 150px; overflow-wrap: break-word; }
    .oio-answers { display: flex; flex-wrap: wrap; gap: 6px; }
    @media (max-width: 1000px) {
      /* Room for three lines, used or not: else the picture would move with the caption. */
      #oio-where-text { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; height: 4.05em; white-space: normal; overflow-wrap: anywhere; }
    }
    .oio-answer { padding: 9px 12px; white-space: nowrap; }
    .oio-panel #oio-out:enabled { flex: 1; background: #1f5b3a; border-color: #58b985; } .oio-panel #oio-out { flex: 1; }
    .oio-done { flex: 1; display: grid; place-items: center; font-size: 20px; }
    .oio-overlay { margin: auto; padding: 0; border: 1px solid #6a717d; border-radius: 10px; background: #22262c; color: #f2f3f5; font: inherit; width: min(640px, 80vw);
      max-height: 80vh; } .oio-overlay::backdrop { background: rgba(0, 0, 0, 0.55); }
    .oio-sheet-of-paper { display: flex; flex-direction: column; gap: 10px; padding: 16px 20px; max-height: 80vh; box-sizing: border-box; }
    .oio-overlay h2 { margin: 0; font-size: 17px; font-weight: 600; } .oio-overlay h3 { margin: 12px 0 4px; font-size: 15px; font-weight: 600; } .oio-overlay p { margin: 0 0 6px; }
    .oio-hint { color: #c3c8d0; font-size: 13px; }
    .oio-overlay input, .oio-overlay textarea { font: inherit; padding: 8px; color: #f2f3f5; background: #16181c; border: 1px solid #8b93a0; border-radius: 6px;
      resize: vertical; }
    .oio-found { display: flex; flex-direction: column; gap: 4px; overflow: auto; }
    .oio-panel .oio-hit { display: grid; grid-template-columns: 56px 1fr auto; align-items: center; gap: 10px; padding: 4px 8px; text-align: left; }
    .oio-hit img { width: 56px; height: 42px; object-fit: contain; } .oio-hit small { color: #c3c8d0; }
    .oio-panel .oio-hit[aria-selected=true] { border-color: #ff9f5a; background: #4a3424; }
    .oio-guideline { overflow: auto; white-space: pre-line; } .oio-guideline ul { margin: 0 0 6px; padding-left: 20px; list-style: disc; }
    .oio-panel .oio-guideline:focus-visible { outline-width: 1px; }
    @media (min-width: 1900px) { .oio-panel { font-size: 16px; } .oio-marks { font-size: 14px; } }`;

  registerComponent({
    name: "openimage_o_judge", label: "Judge", component: Judge, type: PluginComponentType.Panel,
    activator: () => true, panelOptions: { surfaces: "grid" },
  });
})();
