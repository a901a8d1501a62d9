import { defineConfig, type ViteUserConfig } from "vitest/config";

// `npm run dev`: the pages with live reload. With CAMRING_URL they talk to a running daemon, else to the mock.
const daemon = process.env.CAMRING_URL;

export default defineConfig(async ({ command }): Promise<ViteUserConfig> => ({
  plugins:
    command === "serve" && !process.env.VITEST && !daemon ? [(await import("./mock/server")).mock()] : [],
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  build: {
    target: "es2022",
    // The folder stays, with its .gitignore: cargo embeds it, built or not.
    emptyOutDir: false,
    // Small files stay files: the pages' Content-Security-Policy allows nothing inline.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 800,
  },
  server: {
    host: "127.0.0.1",
    ...(daemon ? { proxy: { "/api": daemon, "/hls": daemon, "/dash": daemon } } : {}),
  },
  test: {
    projects: [
      { extends: true, test: { name: "unit", include: ["tests/unit/**/*.test.ts"], environment: "node" } },
      {
        extends: true,
        test: {
          name: "browser",
          include: ["tests/browser/**/*.test.ts"],
          environment: "node",
          poolOptions: { forks: { singleFork: true } },
          testTimeout: 120_000,
          hookTimeout: 300_000,
        },
      },
      // Not tests: figures and pictures for the documentation.
      { extends: true, test: { name: "bench", include: ["bench/**/*.ts"], environment: "node", testTimeout: 1_800_000 } },
    ],
  },
}));
