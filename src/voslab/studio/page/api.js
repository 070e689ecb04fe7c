// Requests to the server. Errors of the server become exceptions with its one line.

async function request(method, path, body, type) {
  const answer = await fetch(path, { method, body, headers: type ? { "content-type": type } : {} });
  if (!answer.ok) {
    const text = await answer.text();
    let line = text;
    try { line = JSON.parse(text).error ?? text; } catch { /* not JSON: the text itself */ }
    throw new Error(line || `the server answered ${answer.status}`);
  }
  return answer;
}

const send = (method, path, values) => request(method, path, JSON.stringify(values), "application/json");

export const loadState = async () => (await request("GET", "/api/state")).json();
export const loadProgress = async (after) => (await request("GET", `/api/progress?after=${after}`)).json();
export const saveObjects = async (objects) => (await send("PUT", "/api/objects", { objects })).json();
export const propagate = async (values) => (await send("POST", "/api/propagation", values)).json();
export const cancel = async () => (await request("DELETE", "/api/propagation")).json();
export const exportMasks = async (save) => (await send("POST", "/api/export", { save })).json();
export const deleteMask = async (frame) => (await request("DELETE", `/api/masks/${frame}`)).json();
export const saveMask = async (frame, blob) => (await request("PUT", `/api/masks/${frame}`, blob, "image/png")).json();

export async function loadImage(frame) {
  return createImageBitmap(await (await request("GET", `/api/frames/${frame}`)).blob());
}

// Ids of a mask as bytes, one per pixel; null if the frame has none.
async function loadIds(path) {
  const answer = await request("GET", path);
  return answer.status === 204 ? null : decode(await answer.blob());
}

export const loadMask = (frame) => loadIds(`/api/masks/${frame}`);
export const loadSecond = (frame) => loadIds(`/api/second/${frame}`);

// What the method computed inside, as an image; null if it was not recorded.
export async function loadInternal(name, frame) {
  const answer = await request("GET", `/api/internals/${encodeURIComponent(name)}/${frame}`);
  return answer.status === 204 ? null : createImageBitmap(await answer.blob());
}

export const propose = async (values) => decode(await (await send("POST", "/api/proposal", values)).blob());

async function decode(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const ids = new Uint8Array(bitmap.width * bitmap.height);
  for (let i = 0; i < ids.length; i++) ids[i] = data[4 * i];
  return ids;
}

export function encode(ids, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const image = new ImageData(width, height);
  for (let i = 0; i < ids.length; i++) {
    image.data[4 * i] = ids[i];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
