// A plain HTTP server that speaks List Blobs and Get Blob over the files of a folder: `node blob_server.js FOLDER`.
// It does next to nothing for each request, so that clients are measured and not the server. Prints its port.
"use strict";
const fs = require("fs");
const http = require("http");
const path = require("path");

const root = process.argv[2];
const small = new Map();
const escaped = { "&": "&amp;", "<": "&lt;" };

function list(query) {
  const folder = query.get("prefix");
  const blobs = fs.readdirSync(path.join(root, folder)).sort().map((name) => {
    const size = fs.statSync(path.join(root, folder, name)).size;
    const full = (folder + name).replace(/[&<]/g, (sign) => escaped[sign]);
    return `<Blob><Name>${full}</Name><Properties><Etag>0x${size.toString(16)}</Etag>` +
      `<Content-Length>${size}</Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>`;
  });
  return `<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>${blobs.join("")}</Blobs><NextMarker/>` +
    "</EnumerationResults>";
}

function get(request, response, file) {
  const size = fs.statSync(file).size;
  const range = /^bytes=(\d+)-(\d+)?$/.exec(request.headers["x-ms-range"] || request.headers.range || "");
  const start = range ? Number(range[1]) : 0;
  const stop = range && range[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
  const headers = {
    "Content-Length": stop - start + 1, ETag: `"0x${size.toString(16)}"`, "x-ms-blob-type": "BlockBlob",
    "Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT", "x-ms-version": "2019-07-07",
    "Content-Type": "application/octet-stream",
  };
  if (range) headers["Content-Range"] = `bytes ${start}-${stop}/${size}`;
  response.writeHead(range ? 206 : 200, headers);
  if (size > 2 ** 20) return fs.createReadStream(file, { start, end: stop, highWaterMark: 2 ** 20 }).pipe(response);
  if (!small.has(file)) small.set(file, fs.readFileSync(file));
  return response.end(small.get(file).subarray(start, stop + 1));
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.searchParams.get("comp") === "list") {
    const page = Buffer.from(list(url.searchParams));
    response.writeHead(200, { "Content-Length": page.length, "Content-Type": "application/xml" });
    return response.end(page);
  }
  return get(request, response, path.join(root, decodeURIComponent(url.pathname).split("/").slice(3).join("/")));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
