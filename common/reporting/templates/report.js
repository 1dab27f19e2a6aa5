"use strict";
// Each case has its pictures as --<case>-<layer>-<slice>; its panels show --<layer>.
for (const view of document.querySelectorAll(".case")) {
  const slider = view.querySelector("input[type=range]");
  const words = view.querySelector("output");
  const numbers = view.dataset.numbers.split(" ");
  const layers = view.dataset.layers.split(" ");
  const show = () => {
    for (const layer of layers) {
      view.style.setProperty(`--${layer}`, `var(--${view.id}-${layer}-${slider.value}, none)`);
    }
    words.value = `slice ${numbers[slider.value]} of ${view.dataset.total}`;
    slider.setAttribute("aria-valuetext", words.value);
  };
  slider.addEventListener("input", show);
  show(); // a browser may keep the slider's place when the page is loaded again
}
const opacity = document.querySelector("#opacity");
if (opacity) {
  const show = () => document.documentElement.style.setProperty("--overlay", opacity.value);
  opacity.addEventListener("input", show);
  show();
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
