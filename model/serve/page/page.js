"use strict";

// Points are LPS mm (x, y, z), as the server reads them with units "world"; NiiVue has RAS mm.
const byId = (id) => document.getElementById(id);
const viewer = new niivue.Niivue({
  backColor: [0.07, 0.07, 0.07, 1],
  dragMode: niivue.DRAG_MODE.none,
  crosshairGap: 10, // the clicked voxel stays visible
  isRadiologicalConvention: true, // the patient's right is on the left, as radiologists see it
  isResizeCanvas: true,
  loadingText: "",
  show3Dcrosshair: true,
});
const CT = 0, PET = 1, MASK = 2; // order of the viewer's volumes

let token = null;
let busy = false;
let pressed = false;
let line = [];

function show(text, error = "") {
  byId("status").textContent = text;
  byId("error").textContent = error;
}

async function call(method, path, body, isJson = true) {
  const options = { method, body: isJson && body !== undefined ? JSON.stringify(body) : body };
  const response = await fetch(`/api/sessions${path}`, options);
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Error(answer.error ?? `the server answered with status ${response.status}`);
  }
  return response;
}

// One request after the other: buttons and clicks are ignored meanwhile.
async function exclusively(text, work) {
  if (busy) return;
  busy = true;
  document.body.style.cursor = "progress";
  show(text);
  try {
    await work();
  } catch (error) {
    show("", error.message);
  } finally {
    busy = false;
    document.body.style.cursor = "";
  }
}

async function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Put the changed voxels into the mask's image, which has the order of the file: x runs fastest.
async function patchMask(changed, size) {
  if (changed === null) return;
  const values = await unpacked(changed.voxels);
  const image = viewer.volumes[MASK].img;
  const [nx, ny, nz] = changed.size, [x, y, z] = changed.start;
  for (let k = 0; k < nz; k++) {
    for (let j = 0; j < ny; j++) {
      const from = nx * (j + ny * k);
      image.set(values.subarray(from, from + nx), x + size[0] * (y + j + size[1] * (z + k)));
    }
  }
  viewer.updateGLVolume();
}

function showState(state, seconds) {
  const { predicted, all } = state.tiles;
  const clicks = state.clicks.length;
  show(
    `Tumour: ${state.volume_ml.toFixed(2)} ml, ${clicks} ${clicks === 1 ? "point" : "points"}. ` +
      `${predicted} of ${all} tiles computed in ${seconds.toFixed(1)} s.`,
  );
  byId("warnings").replaceChildren(
    ...state.warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })),
  );
  byId("undo").disabled = state.steps === 0;
}

async function change(path, body) {
  const begin = performance.now();
  const state = await (await call("POST", `/${token}${path}`, body)).json();
  await patchMask(state.changed, state.size);
  showState(state, (performance.now() - begin) / 1000);
}

function activity() {
  const texts = [...document.querySelectorAll(".activity")].map((input) => input.value);
  if (texts.every((text) => text === "")) return {};
  return { activity: texts.map(Number) };
}

async function loadImages(ct, pet) {
  while (viewer.volumes.length) viewer.removeVolume(viewer.volumes[viewer.volumes.length - 1]);
  const petMax = Number(byId("pet-max").value);
  const opacity = Number(byId("pet-opacity").value);
  viewer.addVolume(
    await niivue.NVImage.loadFromFile({ file: ct, name: ct.name, colormap: "gray", cal_min: -160, cal_max: 240 }),
  );
  viewer.addVolume(
    await niivue.NVImage.loadFromFile({
      file: pet, name: pet.name, colormap: "hot", cal_min: 0, cal_max: petMax, opacity,
    }),
  );
}

async function loadMask() {
  const bytes = await (await call("GET", `/${token}/mask.nii.gz`)).blob();
  viewer.addVolume(
    await niivue.NVImage.loadFromFile({
      file: new File([bytes], "mask.nii.gz"), name: "mask.nii.gz", colormap: "green",
      cal_min: 0, cal_max: 1, opacity: Number(byId("mask-opacity").value),
    }),
  );
}

async function segment() {
  const begin = performance.now();
  const ct = byId("ct").files[0], pet = byId("pet").files[0];
  if (token === null) token = (await (await call("POST", "")).json()).token;
  for (const id of ["tools", "view", "results"]) byId(id).disabled = true;
  await call("PUT", `/${token}/uploads/ct`, ct, false);
  await call("PUT", `/${token}/uploads/pet`, pet, false);
  const state = await (await call("POST", `/${token}/images`, activity())).json();
  await loadImages(ct, pet);
  await loadMask();
  for (const id of ["tools", "view", "results"]) byId(id).disabled = false;
  showState(state, (performance.now() - begin) / 1000);
}

async function save(name, path) {
  const bytes = await (await call("GET", `/${token}/${path}`)).blob();
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(bytes), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const mode = () => document.querySelector("input[name=mode]:checked").value;

function addPoints(points) {
  const kind = mode();
  const text = kind === "tumor" ? "Marking tumour …" : "Marking background …";
  return exclusively(text, () => change("/points", { kind, points, units: "world" }));
}

function connect() {
  byId("images").addEventListener("submit", (event) => {
    event.preventDefault();
    exclusively("Uploading and segmenting …", segment);
  });
  byId("undo").addEventListener("click", () => exclusively("Undoing …", () => change("/undo")));
  byId("save-mask").addEventListener("click", () =>
    exclusively("Saving …", () => save("mask.nii.gz", "mask.nii.gz").then(() => show("Saved mask.nii.gz."))),
  );
  byId("save-clicks").addEventListener("click", () =>
    exclusively("Saving …", () =>
      save("lesion-clicks.json", "clicks.json").then(() => show("Saved lesion-clicks.json.")),
    ),
  );
  byId("pet-opacity").addEventListener("input", (event) => viewer.setOpacity(PET, Number(event.target.value)));
  byId("mask-opacity").addEventListener("input", (event) => viewer.setOpacity(MASK, Number(event.target.value)));
  byId("pet-max").addEventListener("change", (event) => {
    viewer.volumes[PET].cal_max = Math.max(1, Number(event.target.value));
    viewer.updateGLVolume();
  });
  // Before the viewer's own listener, which moves the cross.
  window.addEventListener(
    "mousedown",
    (event) => {
      pressed = event.button === 0 && event.target === byId("viewer");
      line = [];
    },
    true,
  );
  // Only the three slices count: a click beside them or into the 3D view leaves the line empty.
  viewer.onLocationChange = ({ axCorSag, mm: [x, y, z] }) => {
    if (pressed && axCorSag <= niivue.SLICE_TYPE.SAGITTAL) line.push([-x, -y, z]);
  };
  window.addEventListener("mouseup", (event) => {
    if (!pressed || event.button !== 0) return;
    pressed = false;
    if (token === null || byId("tools").disabled || mode() === "look" || !line.length) return;
    addPoints(byId("scribble").checked ? thinned(line) : line.slice(-1));
  });
  window.addEventListener("pagehide", () => {
    if (token !== null) fetch(`/api/sessions/${token}`, { method: "DELETE", keepalive: true });
  });
}

// At most so many points of a line, evenly.
function thinned(points, most = 200) {
  if (points.length <= most) return points;
  return Array.from({ length: most }, (_, i) => points[Math.round((i * (points.length - 1)) / (most - 1))]);
}

viewer.attachToCanvas(byId("viewer")).then(() => {
  viewer.setSliceType(niivue.SLICE_TYPE.MULTIPLANAR);
  connect();
});
