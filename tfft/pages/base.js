"use strict";
(() => {
  // A page that was opened as a file may have no clipboard, but can copy what is selected.
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      getSelection().selectAllChildren(document.getElementById(button.dataset.of));
      const said = document.execCommand("copy") ? "copied" : "selected: press Ctrl+C";
      button.parentElement.querySelector("[role=status]").textContent = said;
    });
  }
})();
