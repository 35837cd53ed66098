/* A list of fields that grows and shrinks: [data-add-row] names a <template>, [data-remove-row] takes its own row away. */

document.addEventListener("click", (event) => {
  const add = event.target.closest("[data-add-row]");
  if (add) {
    const list = add.closest("fieldset").querySelector("[data-rows]");
    const row = document.getElementById(add.dataset.addRow).content.firstElementChild.cloneNode(true);
    list.append(row);
    row.querySelector("input").focus();
    return;
  }
  const remove = event.target.closest("[data-remove-row]");
  if (!remove) return;
  const group = remove.closest("fieldset");
  const row = remove.closest("[data-row]");
  const next = row.nextElementSibling ?? row.previousElementSibling;
  if (next) {
    row.remove();
    next.querySelector("input").focus();
  } else {
    // The last row stays, empty: there is always somewhere to write.
    row.querySelector("input").value = "";
    row.querySelector("input").focus();
  }
  group.dispatchEvent(new Event("input", { bubbles: true }));
});
