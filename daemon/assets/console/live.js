// Marks a page whose live part could not be read again: the time of the last good answer, and the reason.
(() => {
  const clock = () => `${new Date().toISOString().slice(11, 19)} UTC`;
  let seen = clock();
  const mark = (why) => {
    const stale = document.getElementById("stale");
    const text = `Not refreshed since ${seen}: ${why}. This page may be out of date.`;
    stale.hidden = false;
    // The same text again would be read out again.
    if (stale.textContent !== text) stale.textContent = text;
  };
  document.addEventListener("htmx:responseError", (event) => {
    mark(`the sidecar answered ${event.detail.xhr.status}`);
  });
  document.addEventListener("htmx:sendError", () => mark("the sidecar does not answer"));
  document.addEventListener("htmx:timeout", () => mark("the sidecar did not answer in time"));
  document.addEventListener("htmx:afterSwap", () => {
    seen = clock();
    document.getElementById("stale").hidden = true;
  });
})();
