// A click on a figure shows it at its full size, to be scrolled; another click or Escape closes it.
document.addEventListener("DOMContentLoaded", () => {
  const shown = document.createElement("dialog")
  shown.id = "zoom"
  shown.addEventListener("click", () => shown.close())
  document.body.append(shown)
  for (const image of document.querySelectorAll("article img"))
    image.addEventListener("click", event => {
      event.preventDefault()
      shown.replaceChildren(image.cloneNode())
      shown.showModal()
    })
})
