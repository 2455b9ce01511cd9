// Who holds the connection that the mouse is over, or that has the focus.

import { keep, make, say } from "./dom.js";

const GAP = 6;

export class Tip {
  constructor(element) {
    this.element = element;
    this.list = make("dl");
    this.target = null;
    element.append(this.list);
    element.addEventListener("pointerleave", () => this.hide());
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.hide());
    addEventListener("resize", () => this.renew());
  }

  attach(target) {
    if (target.hasTip) return;
    target.hasTip = true;
    target.setAttribute("aria-describedby", this.element.id);
    target.addEventListener("pointerenter", () => this.show(target));
    target.addEventListener("focus", () => this.show(target));
    target.addEventListener("click", () => this.show(target));
    target.addEventListener("blur", () => this.hide());
    target.addEventListener("pointerleave", (event) => {
      // The mouse may go over to what it says.
      if (document.activeElement !== target && !this.element.contains(event.relatedTarget)) this.hide();
    });
  }

  show(target) {
    this.target = target;
    this.element.hidden = false;
    this.renew();
  }

  hide() {
    this.target = null;
    this.element.hidden = true;
  }

  renew() {
    if (this.target === null) return;
    if (!this.target.isConnected) {
      this.hide();
      return;
    }
    keep(
      this.list,
      this.target.facts,
      ([title]) => title,
      ([title]) => make("div", {}, make("dt", {}, title), make("dd", {})),
      (row, [, text]) => say(row.lastChild, text),
    );
    const box = this.target.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const left = Math.max(GAP, Math.min(box.left, width - this.element.offsetWidth - GAP));
    this.element.style.left = `${left + scrollX}px`;
    this.element.style.top = `${box.bottom + GAP + scrollY}px`;
  }
}
