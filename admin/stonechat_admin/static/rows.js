/* A list of fields that grows and shrinks: [data-add-row] names a <template>, [data-remove-row] takes its own row away. */

document.addEventListener("click", (event) => {
  const add = event.target.closest("[data-add-row]");
  if (add) {
    const list = add.closest("fieldset").querySelector("[data-rows]");
    const row = document.getElementById(add.dataset.addRow).content.firstElementChild.cloneNode(true);
    list.append(row);
    row.querySelector("input, select").focus();
    return;
  }
  const remove = event.target.closest("[data-remove-row]");
  if (!remove) return;
  const group = remove.closest("fieldset");
  const row = remove.closest("[data-row]");
  const next = row.nextElementSibling ?? row.previousElementSibling;
  if (next) {
    row.remove();
    next.querySelector("input, select").focus();
  } else {
    // The last row stays, empty: there is always somewhere to write.
    for (const field of row.querySelectorAll("input")) field.value = "";
    for (const field of row.querySelectorAll("select")) field.selectedIndex = 0;
    row.querySelector("input, select").focus();
  }
  // What is gone cannot be compared with what was there: see agent-form.js.
  if (group.form) group.form.dataset.dirty = "";
  group.dispatchEvent(new Event("input", { bubbles: true }));
});
