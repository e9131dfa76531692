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
