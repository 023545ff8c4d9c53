// The browser's end of `web_terminal.py`: a binary message is "0" and what was typed, or "1" and the size as JSON;
// what comes back is what the terminal puts out. A lost connection is opened again, with another shell.
const terminal = new Terminal({ cursorBlink: true, scrollback: 10000 });
const fit = new FitAddon.FitAddon();
const encoder = new TextEncoder();
let socket = null;

function send(kind, text) {
  if (socket !== null && socket.readyState === WebSocket.OPEN) {
    socket.send(encoder.encode(kind + text));
  }
}

function sendSize() {
  fit.fit();
  send("1", JSON.stringify({ rows: terminal.rows, cols: terminal.cols }));
}

function connect() {
  const address = new URL("ws", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = sendSize;
  socket.onmessage = (message) => terminal.write(new Uint8Array(message.data));
  socket.onclose = () => {
    terminal.write("\r\n[the connection has ended; press Enter for another]\r\n");
    socket = null;
  };
}

terminal.loadAddon(fit);
terminal.open(document.getElementById("terminal"));
terminal.onData((typed) => {
  if (socket !== null) {
    send("0", typed);
  } else if (typed === "\r") {
    terminal.reset();
    connect();
  }
});
window.addEventListener("resize", sendSize);
terminal.focus();
connect();
