// For keyboards and screen readers, what the theme leaves out.
document$.subscribe(() => {
  document.querySelector("[data-md-component=search]")?.setAttribute("aria-label", "Search");
  document.querySelectorAll("pre > code, .md-typeset__scrollwrap").forEach((area) => area.setAttribute("tabindex", "0"));
  document.querySelectorAll("nav.md-nav[aria-labelledby]").forEach((nav, number) => {
    const name = document.getElementById(nav.getAttribute("aria-labelledby"))?.textContent.trim();
    nav.removeAttribute("aria-labelledby");
    nav.setAttribute("aria-label", `${name || "Contents"}, part ${number + 1}`);
  });
});

// The theme's copy buttons come later, each in a <nav> of its own without a name.
new MutationObserver(() => {
  document.querySelectorAll("nav.md-code__nav:not([aria-label])").forEach((nav) => {
    const number = document.querySelectorAll("nav.md-code__nav[aria-label]").length + 1;
    nav.setAttribute("aria-label", `Code ${number}`);
  });
}).observe(document.documentElement, { childList: true, subtree: true });
