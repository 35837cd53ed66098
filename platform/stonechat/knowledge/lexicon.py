"""English words that questions are made of: which say little, which mean the same, and which ask for what.

Plain lists, because they must be readable to be right. Other languages fall back on stems and stop words alone.
"""

from __future__ import annotations

import re

_LIGHT = """
about able actually add allow allowed already also always another any anyone anything anyway around ask available back
best better bit bought bring call called can cannot come company concerning could customer customers day days did do does
doing done else ever every everything exactly explain fast fine find first get gets getting give given go goes going good
got great had handle happen happened happens has have having hear hello help hey hi how i'd i'm i've it's if inform
information instead interested just keep kind know last let like list little long look looking made make makes many matter
may maybe mean mention might more most much must near need needed needs new next now number offer offered ok okay old once
one online only option options other own page part people per person place please point possible problem process provide
provided put question quick quickly quite rather really regarding right same say see shall should show simply since site
some somebody someone something soon sort specific start still stuff suppose supposed support sure take takes taking tell
thank thanks thing things think time times today told too tried try two type under until upon use used user users using
usually various very want wanted wants was way ways website week well went what's when whenever where whether which while
who whole whom whose why will wish within without wonder work works would yes yet you your
receive received bit having getting happen occur exist serve deal order item product thing different normal normally regular currently present early late
"""

_SAME = """
return returns returning
refund moneyback reimburse reimbursement repay credited
cost costs price fee charge rate tariff priced
pay payment payable paying invoice billing
spend budget allowance
buy purchase bought purchased
ship shipping shipment deliver delivery postage dispatch courier sent send carrier
parcel package packet
arrive arrival delivered reach
cancel cancellation cancelled terminate revoke abort unsubscribe withdraw
guarantee warranty guaranteed warranted promise
fix repair mend fixed servicing maintenance
broken faulty defective damaged defect fault damage malfunction break
phone telephone tel hotline call mobile
email mailbox mail
change modify edit update alter adjust switch amend
delete remove erase removal
wash clean cleaning rinse washing cleaned laundry
child children kid toddler baby
maximum max limit highest most cap upto
minimum min lowest least smallest
size dimension big large measure width height depth
weight weigh heavy weighs
free complimentary gratis
abroad international overseas foreign worldwide
login signin logon
account profile
shop store boutique showroom
discount coupon voucher promo promotion rebate
giftcard voucher
install setup installation installing
start begin launch commence
stop halt end quit finish
require requirement required necessary mandatory prerequisite
allow permit permitted allowed may
exchange swap replace replacement replaced substitute
employee staff worker personnel
photo picture image photograph photography photographing pic camera film filming
car vehicle
park parking
bike bicycle cycle
pet animal dog cat
wifi wireless internet wlan
restroom toilet bathroom lavatory
wheelchair accessible accessibility disabled ramp lift
eat food meal snack lunch
cafe restaurant canteen
ticket admission entry entrance
borrow loan lend lent
late overdue delayed delay
fine penalty surcharge
open opening hour
close closing closed shut
backup copy snapshot
restore recover recovery restoring
config configuration configure setting
error failure fail failed
version release
upgrade update
encrypt encryption encrypted cipher
loud noise noisy quiet decibel sound
temperature hot degree heat
power watt electricity wattage consumption energy
descale limescale scale
age old older
teen teenager adolescent
reserve reservation reserved book booking booked
pickup collect collection
lost lose missing misplaced
stolen theft stole
address location located situated
card visa mastercard amex
instalment installment monthly financing
password passphrase pin
storage disk space
store stored keep kept save saved
show appear display visible
long length character
support supported compatible work works
define definition mean meaning
memory ram
speed fast slow throughput bandwidth
schedule cron automatic automatically timer scheduled
file files document
folder directory path
gift present
wrap wrapping wrapped
tax vat
customs duty duties import
used worn opened
privacy confidential gdpr
complain complaint dispute
contact reach write
sieve strainer
blink flash blinking flashing
leak leaking leaks drip
allergy allergen allergic
job vacancy career hiring apply
sale clearance reduced
holiday vacation leave pto
sick ill illness
salary wage pay paid earn earnings
doctor medical physician
computer laptop notebook pc macbook
mac macos osx
smell stink odour odor
student school university
movie film dvd
renew extend prolong renewal extension
notice resignation resign quit leaving
manager lead boss supervisor
train rail railway
fly flight plane airline
licence license licensed
supplier vendor manufacturer
manual guide instructions handbook
order purchase
colour color
screen monitor
button key switch
battery batteries accumulator
charger charging recharge
turn switch activate enable
disable deactivate
lock locked padlock
unlock release
expire expiry valid validity lapse
membership member join joining
subscribe subscription plan
trial demo
track tracking trace follow
bus buses tram
train trains
neighbour neighbor
eu european europe
us usa america american
uk britain british england
saturday weekend
sunday weekend
pause freeze suspend suspension hold
contract term
duration length term period
indoor outdoor outside inside outdoors indoors
painkiller paracetamol ibuprofen aspirin
instalment interest spread
appointment booking slot visit
transport bus train tram metro subway underground transit railway
doctor physician gp practitioner
medicine drug medication tablet pill capsule remedy
dose dosage overdose
pregnant pregnancy expecting
breastfeeding breast nursing lactation
child kid under minor junior youth
adult grown grownup
elderly senior pensioner retired concession old
student concession
bag backpack rucksack luggage suitcase baggage
locker cloakroom
map plan
tour guided guide guiding
group party parties
school class classes pupil
interval between
graphical gui interface
daemon background service
logs log logging
docs documentation manual
folder dir directory
exclude ignore skip omit
upload uploads uploading
download downloads fetch
limit limited limits cap restrict restriction
password passphrase passcode credentials
signin login logon authenticate authentication
hire rent rental lend borrow lease
smoke smoking cigarette
alcohol drink drinks wine beer drunk
sofa couch furniture
fridge freezer appliance refrigerator
rubbish waste trash garbage refuse litter
bin bins container dustbin
recycle recycling recyclable
dispose disposal discard
noise noisy loud quiet decibel
wheelchair disability disabled mobility
pram pushchair buggy stroller
baby infant nappy diaper toddler
towel towels linen bedding sheet
hotel lodging accommodation hostel room
checkin arrival arrive
checkout departure depart leave vacate
reception desk frontdesk lobby
married wedding marriage marry
funeral death bereavement died
newborn birth paternity maternity parental
overtime extra
raise increase
wage salary pay payday payroll
resign quit notice terminate leaving resignation
fired dismissed dismissal termination
sick illness ill unwell absence absent
remote home homeworking telework telecommute
boss manager supervisor
jewellery jewelry ring watch necklace earring bracelet
clothes clothing dress uniform outfit wear
injury injured bite hurt accident
report notify tell inform
responsible charge head chief
ceo director chief founder
founder founded found established founding
built constructed erected
headquarters headquartered based located
discount reduction reduced concession half
invoice bill billing receipt
refund reimbursed reimbursement refunded refundable
bankrupt insolvent
compensation compensate damages indemnity
law jurisdiction court governing
liable liability responsible responsibility
forbidden prohibited banned allowed permitted permission
minimum least
passport id identification identity
visa visas
airport flight
luggage baggage hold
seat seats seating
taxi cab
euro euros eur
cash notes coins
tip gratuity
weather rain snow storm
toilet wc restroom bathroom
shower bath
swim swimming pool
lunch dinner breakfast meal
vegan vegetarian diet dietary
nut nuts peanut allergen
ingredient ingredients contain contains contents
expired expiry expire date
side effect effects reaction
headache migraine pain ache
fever temperature
store storage keep
wash machine laundry
dry drying dryer
clean cleaning cleaned hygiene
reset restart reboot
crash crashes freeze hang
slow slowly performance
delete remove erase wipe
filter sieve strainer
light lamp led indicator
socket plug outlet mains
cable cord wire lead
spare part parts
assemble assembly mount mounting
"""

_PHRASES = (
    (
        re.compile(
            r"\bsend(?:ing)?(?: \w+)? back\b|\bgive(?: \w+)? back\b|\bbring(?:ing)?(?: \w+)? back\b", re.IGNORECASE
        ),
        " return ",
    ),
    (re.compile(r"\bmoney back\b|\bget my money\b|\bpaid back\b", re.IGNORECASE), " refund "),
    (
        re.compile(
            r"\bhow expensive\b|\bhow much(?: (?:is|are|for|would|will|do|does|did|to)\b(?!.*\b(?:weigh|hold|use|consume|need|contain|require|store|fit)\b)|\s*\?|$)",
            re.IGNORECASE,
        ),
        " cost ",
    ),
    (re.compile(r"\bhow (?:big|large|wide|tall|deep|high)\b", re.IGNORECASE), " size "),
    (re.compile(r"\bhow heavy\b", re.IGNORECASE), " weight "),
    (re.compile(r"\bhow old\b", re.IGNORECASE), " age "),
    (re.compile(r"\bhow (?:loud|noisy|quiet)\b", re.IGNORECASE), " noise "),
    (re.compile(r"\bhow hot\b", re.IGNORECASE), " temperature "),
    (re.compile(r"\b(?:sign|log)(?:ging|ing)? ?in\b", re.IGNORECASE), " login "),
    (re.compile(r"\bset(?:ting)? up\b", re.IGNORECASE), " setup "),
    (re.compile(r"\bshow(?:s|ing|n)? up\b", re.IGNORECASE), " appear "),
    (re.compile(r"\bstands? for\b", re.IGNORECASE), " mean "),
    (re.compile(r"\bcheck(?:ing)?[ -]?in\b", re.IGNORECASE), " check-in arrive "),
    (re.compile(r"\bcheck(?:ing)?[ -]?out\b", re.IGNORECASE), " check-out leave "),
    (re.compile(r"\bwho (?:makes|made|produces|manufactures)\b", re.IGNORECASE), " manufacturer "),
    (re.compile(r"\bin charge\b", re.IGNORECASE), " responsible "),
    (re.compile(r"\blooks? like\b", re.IGNORECASE), " colour "),
    (re.compile(r"\bget (?:here|there|to)\b", re.IGNORECASE), " directions reach "),
    (re.compile(r"\btoo much\b|\btoo many\b", re.IGNORECASE), " exceed overdose "),
    (re.compile(r"\bwork(?:ing)? from home\b", re.IGNORECASE), " remote homeworking "),
    (re.compile(r"\bcall(?:ing)? in sick\b", re.IGNORECASE), " sick "),
    (re.compile(r"\bg\.?u\.?i\b", re.IGNORECASE), " graphical "),
    (re.compile(r"\b(?:days?|time) off\b", re.IGNORECASE), " leave "),
    (re.compile(r"\bget rid of\b|\bthrow(?:ing)? away\b", re.IGNORECASE), " dispose "),
    (re.compile(r"\bget in touch\b|\bspeak (?:to|with)\b", re.IGNORECASE), " contact "),
    (re.compile(r"\bpick(?:ed|ing)? (?:\w+ )?up\b", re.IGNORECASE), " collect "),
)
"""Phrases of questions, and the word that a document would use."""

_PERIOD = r"(?:(?:second|sec|minute|min|hour|hr|day|week|month|year|night)s?|h)"
_NUMBER = (
    r"(?:\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|twelve|fourteen|fifteen|twenty|thirty|half|a|an)"
)
_DURATION = re.compile(
    rf"\b{_NUMBER}(?:[ -]\w+)?[ -](?:working |business |calendar |full )?{_PERIOD}\b|\bimmediately\b|\bsame day\b|\boverni|\bat once\b",
    re.IGNORECASE,
)
_MOMENT = re.compile(
    rf"{_DURATION.pattern}|\b\d{{1,2}}[:.]\d\d\b|\b\d{{1,2}} ?[ap]\.?m\b|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day|"
    r"\b(?:january|february|march|april|may|june|july|august|september|october|november|december)\b|\b(?:noon|midnight|daily|weekly|monthly|yearly|annually|hourly|once|twice|every)\b"
    r"|\b\d{1,2}(?:st|nd|rd|th)\b|\b(?:19|20)\d\d\b",
    re.IGNORECASE,
)
_WHENEVER = re.compile(rf"{_MOMENT.pattern}|\b(?:before|after|until|by|when|as soon as)\b", re.IGNORECASE)
_CLOCK = re.compile(r"\b\d{1,2}[:.]\d\d\b|\b\d{1,2} ?[ap]\.?m\b|\b(?:noon|midnight|o'clock)\b", re.IGNORECASE)
_NAMED = re.compile(
    r"(?:\b[A-Z][\w'’-]+ (?:[A-Z]\. )?(?:&|and|of|the|von|van|de)? ?[A-Z][\w'’-]+)|@|\b(?:team|office|department|staff|manager|holder|officer|everybody|everyone|anybody|anyone|only)\b"
)
_DURATION_OR_SIZE = re.compile(
    rf"{_DURATION.pattern}|\d[\d.,]* ?(?:characters|words|pages|cm|mm|m|km|metres|meters|inches|feet)\b", re.IGNORECASE
)
_MONEY = re.compile(
    r"[$€£¥]\s?\d|\d[\d.,]*\s?(?:[$€£¥]|eur|usd|gbp|chf|nok|sek|dkk|pln|dollars?|euros?|pounds?|cents?|%|percent)|\bfree\b|\bno (?:extra )?(?:charge|cost|fee)\b|\bincluded\b",
    re.IGNORECASE,
)
_DIGITS = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|fifty|hundred|thousand|once|twice|half|unlimited|no limit)\b",
    re.IGNORECASE,
)
NUMBERED = re.compile(
    r"(?:\b\d[\d.,/]*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fourteen|fifteen|twenty|thirty|fifty"
    r"|hundred|thousand|no limit on|unlimited))[ -]((?:[^\W\d_]+[ -]?){1,3})",
    re.IGNORECASE,
)
"""A number and the words after it."""
_PHONE = re.compile(r"\+?\(?\d[\d ()/.-]{5,}\d")
_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.\w+")

ASKS: tuple[tuple[re.Pattern[str], re.Pattern[str], float], ...] = (
    (re.compile(r"\b(?:phone|telephone|tel|hotline|fax)\b(?:.{0,12}\bnumber)?", re.IGNORECASE), _PHONE, 0.35),
    (re.compile(r"\be-?mail(?: address)?\b", re.IGNORECASE), _EMAIL, 0.2),
    (re.compile(r"\bhow expensive\b|\bhow much(?: (?:is|are|for|would|will|do|does|did|to)\b(?!.*\b(?:weigh|hold|use|consume|need|contain|require|store|fit)\b)|\s*\?|$)|\b(?:price|cost|fee|charge)s?\b", re.IGNORECASE), _MONEY, 0.2),
    (re.compile(r"\bhow (?:long|soon|quick|fast)\b|\bdeadline\b|\bhow (?:much|many) (?:time|days|weeks|hours|minutes|months|years)\b", re.IGNORECASE), _DURATION_OR_SIZE, 0.2),
    (re.compile(r"\bwhen\b|\bwhat time\b|\bhow often\b|\bopening hours\b|\bwhat (?:day|date|year)", re.IGNORECASE), _MOMENT, 0.12),
    (re.compile(r"\bwhen\b", re.IGNORECASE), _WHENEVER, 0.06),
    (re.compile(r"\b(?:what|which) time\b|\bat what hour", re.IGNORECASE), _CLOCK, 0.16),
    (re.compile(r"^\W*who(?:'s)?\b(?! can\b| may\b)", re.IGNORECASE), _NAMED, 0.16),
    (re.compile(r"^\W*why\b|\breason\b", re.IGNORECASE), re.compile(r"\b(?:because|since|due to|so that|reason|therefore|thus|which is why|as a result|in order to|means that)\b", re.IGNORECASE), 0.08),
    (re.compile(r"\bhow (?:many|old|big|large|wide|tall|deep|high|heavy|hot|loud|far|much)\b|\bmaximum\b|\bminimum\b|\bmax\b|\bwhat (?:temperature|size|percentage|age|port|version)\b", re.IGNORECASE), _DIGITS, 0.15),
)  # fmt: skip
"""What a question looks like, what its answer must look like then, and how much weight a lack of it has."""


LIGHT = frozenset(_LIGHT.split())
GROUPS: tuple[tuple[str, ...], ...] = tuple(tuple(line.split()) for line in _SAME.strip().split("\n"))


def reworded(question: str) -> str:
    """The question with words that documents use beside its phrases."""
    for pattern, word in _PHRASES:
        if pattern.search(question):
            question = pattern.sub(word, question)
    return question
