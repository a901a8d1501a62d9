import { render } from "preact";
import { App } from "./app";
import { catchLinks } from "./lib/router";
import { start } from "./lib/state";
import "./lib/theme";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/shell.css";
import "./styles/wall.css";
import "./styles/camera.css";
import "./styles/login.css";
import "./styles/recordings.css";

const root = document.getElementById("app");
if (root) render(<App />, root);
catchLinks();
start();
