// The judging panel, in plain JavaScript on the globals of the FiftyOne App (1.22): no build step, no remote asset.
// The state of the session lives outside React, as the App unmounts all panels when its server goes away.
(() => {
  "use strict";
  const h = React.createElement;
  const { registerComponent, PluginComponentType } = window.__fop__;
  const PLUGIN = "@openimage-o/judge";
  const RETRY_MS = 1500;
  // Nobody sees a picture and answers in less (simple visual reactions take about 200 ms): it is the second half of a
  // double click, or a bouncing key, meant for the picture before.
  const MIN_LOOK_MS = 150;

  // Else an advertisement lies over the cards and takes their clicks until it is dismissed.
  localStorage.setItem("fiftyone-enterprise-tooltip-seen", "true");

  const view = { state: null, message: "", isBusy: false, isPictureReady: false, hasPictureFailed: false, shownAt: 0 };
  const listeners = new Set();
  const warmed = new Map();
  let datasetName = null;

  const mediaUrl = (path) => `/media?filepath=${encodeURIComponent(path)}`;
  const wait = (duration) => new Promise((resolve) => setTimeout(resolve, duration));
  const show = (changes) => {
    Object.assign(view, changes);
    listeners.forEach((listener) => listener());
  };

  const call = async (operator, params) => {
    const reply = await window.__fou__.getFetchFunction()("POST", "/operators/execute", {
      operator_uri: `${PLUGIN}/${operator}`, dataset_name: datasetName, params,
    }, "json", 0); // 0 retries: the App's own are silent, ours are said on screen.
    if (reply.error) throw new Error(reply.error_message || String(reply.error).trim().split("\n").pop());
    return reply.result;
  };

  // One request goes out until it is answered: it carries its decision_id, so that a repetition is stored once.
  const exchange = async (operator, params) => {
    if (view.isBusy) return;
    show({ isBusy: true, message: "" });
    for (;;) {
      try {
        accept(await call(operator, params));
        return;
      } catch (error) {
        show({ message: `The server does not answer (${error.message}). Trying again; an answer counts once the next picture shows.` });
        await wait(RETRY_MS);
      }
    }
  };

  const accept = (state) => {
    const isSamePicture = view.state?.candidate?.image_id === state.candidate?.image_id;
    const kept = isSamePicture ? {} : { isPictureReady: false, hasPictureFailed: false };
    show({ state, isBusy: false, message: state.refused ? `Not saved: ${state.refused}` : "", ...kept });
    state.upcoming_paths.forEach(warm);
  };

  // Keeps the next pictures decoded, so that they are there at once.
  const warm = (path) => {
    if (warmed.has(path)) return;
    const picture = new Image();
    picture.src = mediaUrl(path);
    warmed.set(path, picture);
    if (warmed.size > 8) warmed.delete(warmed.keys().next().value);
  };

  // crypto.randomUUID is there on the loopback, which browsers hold for a secure place.
  const request = (imageId, rest) => ({ decision_id: crypto.randomUUID(), image_id: imageId, ...rest });

  // The image is named by whoever draws the button: a late click cannot judge the wrong picture.
  const answer = (imageId, word, classIndex = null) => {
    const candidate = view.state?.candidate;
    if (!candidate || candidate.image_id !== imageId || view.isBusy) return;
    if (!view.isPictureReady && !(view.hasPictureFailed && word === "skip")) return;
    const look = performance.now() - view.shownAt;
    if (look < MIN_LOOK_MS) return;
    exchange("store_answer", request(imageId, { answer: word, class_index: classIndex, seconds: Math.round(look) / 1000 }));
  };

  const undo = () => {
    const imageId = view.state?.undoable_image_id;
    if (imageId) exchange("undo_answer", request(imageId, { seconds: 0 }));
  };

  const onKey = (event, panel) => {
    const isTyping = event.target.closest?.("input, textarea, select, [contenteditable=true]");
    const isCovered = document.querySelector("#modal")?.childElementCount || document.querySelector("[role=dialog]");
    if (isTyping || isCovered || event.ctrlKey || event.metaKey || event.altKey || !panel?.offsetParent) return;
    const act = actionOf(event.key.toLowerCase());
    if (!act) return;
    // The App has keys of its own, on the same letters.
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!event.repeat) act();
  };

  const actionOf = (key) => {
    const candidate = view.state?.candidate;
    if (key === "u") return undo;
    if (!candidate) return null;
    if (key in WORDS) return () => answer(candidate.image_id, WORDS[key]);
    if (!/^[0-9]$/.test(key)) return null;
    const shown = candidate.classes[key === "0" ? 9 : Number(key) - 1];
    return () => shown && answer(candidate.image_id, "in", shown.class_index);
  };
  const WORDS = { o: "out", d: "difficult", s: "skip" };

  const ClassCard = ({ imageId, shown, place }) =>
    h("button", {
      className: "oio-card", "data-class-index": shown.class_index, title: [shown.name, shown.wnid].filter(Boolean).join(" · "),
      onClick: () => answer(imageId, "in", shown.class_index),
    },
      shown.example_path && h("img", { src: mediaUrl(shown.example_path), alt: "", draggable: false }),
      h("span", { className: "oio-caption" },
        h("kbd", null, (place + 1) % 10),
        h("span", { className: "oio-name" }, shown.name),
        h("span", { className: "oio-similarity" }, shown.similarity.toFixed(2))));

  const Picture = ({ candidate }) => {
    // Open Images' rotation is of the stored pixels, so the EXIF orientation must not be applied as well.
    const turn = candidate.rotation_deg ? {
      imageOrientation: "none", transform: `translate(-50%, -50%) rotate(${-candidate.rotation_deg}deg)`,
    } : {};
    const isSideways = Math.abs(candidate.rotation_deg) % 180 === 90;
    return h("div", { className: "oio-stage" },
      h("img", {
        key: candidate.image_id, id: "oio-picture", className: isSideways ? "oio-sideways" : "", style: turn,
        src: mediaUrl(candidate.path), alt: `candidate ${candidate.image_id}`, "data-image-id": candidate.image_id, draggable: false,
        onLoad: () => show({ isPictureReady: true, hasPictureFailed: false, shownAt: performance.now() }),
        onError: () => show({ hasPictureFailed: true, message: "This picture cannot be shown; skip it." }),
      }));
  };

  const Progress = ({ state }) => {
    const done = state.n_total - state.n_left;
    return h("div", { className: "oio-top" },
      h("strong", null, state.annotator_id),
      h("div", { className: "oio-bar" }, h("div", { style: { width: `${(100 * done) / Math.max(1, state.n_total)}%` } })),
      h("span", { id: "oio-progress" }, `${done} of ${state.n_total} done · ${state.n_answered} in this session`));
  };

  const Answers = ({ state }) => {
    const imageId = state.candidate?.image_id;
    const button = (key, name, label, act, isEnabled) =>
      h("button", { id: `oio-${name}`, className: "oio-answer", disabled: !isEnabled, onClick: act }, h("kbd", null, key), ` ${label}`);
    return h("div", { className: "oio-answers" },
      button("O", "out", "Out: none of these", () => answer(imageId, "out"), imageId),
      button("D", "difficult", "Difficult", () => answer(imageId, "difficult"), imageId),
      button("S", "skip", "Skip", () => answer(imageId, "skip"), imageId),
      button("U", "undo", "Undo", undo, state.undoable_image_id));
  };

  const Judge = () => {
    const [, redraw] = React.useReducer((count) => count + 1, 0);
    const panel = React.useRef(null);
    const setSidebarVisible = recoil.useSetRecoilState(window.__fos__.sidebarVisible(false));
    datasetName = recoil.useRecoilValue(window.__fos__.datasetName);
    React.useEffect(() => {
      const listenToKeys = (event) => onKey(event, panel.current);
      // The room is for the picture; the App's own button brings the sidebar back.
      setSidebarVisible(false);
      listeners.add(redraw);
      window.addEventListener("keydown", listenToKeys, true);
      if (!view.isBusy) exchange("show_candidate", {});
      return () => {
        listeners.delete(redraw);
        window.removeEventListener("keydown", listenToKeys, true);
      };
    }, []);
    const { state, message } = view;
    return h("div", { className: "oio-panel", ref: panel, id: "oio-judge", "data-image-id": state?.candidate?.image_id ?? "" },
      h("style", null, STYLE),
      state && h(Progress, { state }),
      message && h("div", { className: "oio-message", role: "alert" }, message),
      state?.candidate && h("div", { className: "oio-middle" },
        h(Picture, { candidate: state.candidate }),
        // The key holds the candidate: cards of the picture before must never stay on screen.
        h("div", { className: "oio-cards" }, state.candidate.classes.map((shown, place) =>
          h(ClassCard, { key: `${state.candidate.image_id}/${place}`, imageId: state.candidate.image_id, shown, place })))),
      state && !state.candidate && h("div", { className: "oio-done" },
        `All ${state.n_total} pictures are done. Thank you, ${state.annotator_id}.`),
      state && h(Answers, { state }));
  };

  const STYLE = `
    .oio-panel { display: flex; flex-direction: column; gap: 10px; height: 100%; box-sizing: border-box; padding: 12px;
      background: #16181c; color: #f2f3f5; font: 14px/1.35 system-ui, sans-serif; }
    .oio-panel button { font: inherit; color: inherit; background: #2a2e35; border: 1px solid #4a505a; border-radius: 6px; cursor: pointer; }
    .oio-panel button:hover:enabled, .oio-panel button:focus-visible { border-color: #ff9f5a; outline: none; }
    .oio-panel button:disabled { opacity: 0.45; cursor: default; }
    .oio-panel kbd { display: inline-block; min-width: 1.3em; padding: 0 3px; border-radius: 4px; background: #f2f3f5; color: #16181c;
      font: 600 12px/1.5 system-ui, sans-serif; text-align: center; }
    .oio-top { display: flex; align-items: center; gap: 12px; }
    .oio-bar { flex: 1; height: 6px; border-radius: 3px; background: #353a42; overflow: hidden; }
    .oio-bar div { height: 100%; background: #ff9f5a; }
    .oio-message { padding: 8px 12px; border-radius: 6px; background: #7a1f1f; color: #fff; }
    .oio-middle { flex: 1; min-height: 0; display: flex; gap: 12px; }
    .oio-stage { flex: 3; min-width: 0; position: relative; container-type: size; background: #000; border-radius: 6px; overflow: hidden; }
    .oio-stage img { position: absolute; left: 50%; top: 50%; transform: translate(-50%, -50%); width: 100cqw; height: 100cqh; object-fit: contain; }
    .oio-stage img.oio-sideways { width: 100cqh; height: 100cqw; }
    .oio-cards { flex: 2; min-width: 300px; max-width: 620px; display: grid; grid-template-columns: 1fr 1fr; grid-auto-rows: minmax(0, 1fr); gap: 6px; }
    .oio-card { display: flex; flex-direction: column; justify-content: center; min-height: 0; padding: 4px; overflow: hidden; text-align: left; }
    .oio-card img { flex: 1; min-height: 0; width: 100%; object-fit: contain; }
    .oio-caption { display: flex; align-items: center; gap: 6px; padding: 2px; }
    .oio-name { flex: 1; overflow: hidden; text-overflow: ellipsis; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; }
    .oio-similarity { font-variant-numeric: tabular-nums; color: #c3c8d0; }
    .oio-answers { display: flex; gap: 8px; }
    .oio-answer { padding: 10px 16px; }
    .oio-panel #oio-out { flex: 1; background: #1f5b3a; border-color: #3c9a68; }
    .oio-done { flex: 1; display: grid; place-items: center; font-size: 20px; }`;

  registerComponent({
    name: "openimage_o_judge", label: "Judge", component: Judge, type: PluginComponentType.Panel,
    activator: () => true, panelOptions: { surfaces: "grid" },
  });
})();
