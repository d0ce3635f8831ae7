"""The words and sentences of scripts/demo_stories.py. Word lists stand by falling frequency; apart
from the colours of hair, no word stands in two lists that questions are asked about."""
import collections

# First names, the most frequent first.
NAMES = """
Mia Tom Anna Ben Emma Jack Lily Sam Lucy Max Sara Leo Nina Paul Ella Adam Zoe Luke Maria Peter Eva
David Clara Noah Julia Mark Alice Oscar Laura Daniel Sophie Henry Olivia James Grace Simon Ruth
Oliver Hanna Victor Emily George Lena Felix Martha Jonas Rosa Hugo Irene Martin Nora Philip Ida
Robert Helen Alex Vera Thomas Kate Arthur Diana Edward Judith Frank Amy Harry Carla Ivan Sally
Walter Jane Eric Marta Otto Linda Karl Susan Ralph Tina Dennis Bella Gabriel Rita Jacob Ellen Lucas
Molly Nathan Greta Patrick Holly Samuel Agnes Stephen Doris Theo Edith William Flora Anton Gloria
Bruno Heidi Conrad Iris Damian Jenny Edgar Karen Fabian Lara Gregor Monica Harold Nancy Isaac Olga
Jasper Paula Kevin Rachel Lionel Sandra Marcus Tessa Nelson Ursula Owen Wendy Quentin Yvonne Roland
Abigail Sidney Beatrice Toby Cecilia Vincent Daphne Wesley Eleanor Xavier Fiona Albert Gwen Basil
Harriet Cedric Isabel Dominic Joanna Elliot Kirsten Francis Leila Gordon Mabel Howard Naomi
Ignatius Ophelia Jerome Penelope Kenneth Queenie Lawrence Rebecca Milton Selma Neville Tamara
Osbert Una Percy Valerie Quincy Winifred Rufus Yolanda Silas Zelda Tristan Amelia Ulric Bridget
Vernon Camilla Wilbur Deborah Yusuf Elsa Zachary Frida Aaron Gina Bernard Hilda Caleb Ingrid Derek
Josie Ethan Klara Floyd Lydia Gilbert Miriam Hector Nadia Ian Odette Julian Petra Kurt Regina
Leonard Sylvia Magnus Thelma Nigel Ulla Orlando Vivian Pablo Wilma Ramon Xenia Stefan Yasmin
Timothy Zara Uriah Anita Viktor Brenda Wallace Claudia Yannick Dora Zoltan Elena Andre Fatima Boris
Gerda Carlos Helga Diego Ines Emil Johanna Fernando Katia Gustav Lorna Hassan Maya Igor Nell Javier
Olive Kamal Polly Lars Roxana Mateo Sonia Nico Trudy Omar Ulrike Pierre Violet Rafael Willa Sergio
Yara Tariq Zita Umberto Astrid Vasily Bianca Wolfgang Corinna Yuri Dolores Zeno Estella Alan Freya
Barry Gemma Chester Hazel Dexter Imogen Ernest Jemima Fergus Keira Gavin Louisa Herbert Marion
Irving Noreen Jeremy Opal Keith Priscilla Leroy Rowena Morris Stella Norman Tabitha Oswald Verity
Preston Wanda Rodney Yvette Stuart Zena Terence Adela Upton Blanche Virgil Cora Warren Delia Yorick
Enid Zane Fay Angus Ginger Blake Hester Clifford Ivy Duncan Jocelyn Edmund Kitty Fraser Lavinia
Graham Millie Hubert Nerys Isidore Octavia Jethro Phoebe Kermit Rhoda Lloyd Sabrina Murray Tilda
Nestor Undine Orson Vanessa Piers Wallis Roger Yetta Seymour Zuleika Trevor Annika Vaughn Bettina
Winston Celeste Abel Dinah Bertram Elspeth Cyril Francesca Dudley Georgia Elmer Henrietta
""".split()

# Towns.
TOWNS = """
Paris London Rome Berlin Madrid Vienna Oslo Dublin Athens Prague Lisbon Boston Chicago Toronto
Cairo Delhi Tokyo Warsaw Milan Venice Geneva Hamburg Munich Oxford Cambridge York Bristol Leeds
Glasgow Edinburgh Cardiff Belfast Copenhagen Stockholm Helsinki Riga Vilnius Budapest Belgrade
Sofia Istanbul Ankara Beirut Nairobi Lagos Lima Bogota Quito Havana Dallas Houston Denver Seattle
Portland Detroit Memphis Atlanta Miami Montreal Ottawa Sydney Melbourne Perth Auckland Seoul Osaka
Kyoto Shanghai Bangkok Hanoi Manila Jakarta Mumbai Kabul Tehran Baghdad Lyon Nice Turin Naples
Seville Porto Ghent Bruges Utrecht Basel Zurich Salzburg Krakow Odessa Tallinn Bergen
""".split()

# Colours.
COLOURS = """
red blue green yellow black white brown pink purple grey golden silver crimson scarlet turquoise
violet beige lilac maroon amber indigo azure ivory teal magenta khaki
""".split()

# Hair that people can have.
HAIR = """
black brown red blond grey white dark curly straight wavy long short thick fair
""".split()

# What things are made of.
MATERIALS = """
wood glass brass copper leather paper stone plastic clay iron cotton wool silk steel bone rubber
marble bamboo tin wax straw velvet linen felt bronze porcelain jade cardboard
""".split()

# Sizes.
SIZES = """
big small tiny huge large little medium giant enormous narrow wide massive slim gigantic miniature
""".split()

# What things can look like.
LOOKS = """
old new pretty dirty clean shiny broken round heavy light soft dusty rusty ugly plain rare strange
fancy cheap precious smooth rough cracked polished wet dry flat crooked bent torn modern ancient
antique elegant simple sticky muddy fragile sturdy bright dull pale striped spotted painted carved
fragrant greasy hollow solid faded stained scratched wrinkled folded pointed curved oval lovely
charming splendid magnificent odd peculiar remarkable ordinary common useless useful valuable
priceless costly expensive delicate flimsy robust battered worn shabby tattered patched mended
glossy sparkling glittering glowing gleaming frosted fluffy furry fuzzy silky slippery prickly
bumpy lumpy warped dented chipped rotten mouldy colourful checkered decorated jewelled engraved
royal magic secret famous foreign homemade borrowed stolen forgotten
""".split()

# What people can feel.
MOODS = """
happy sad angry tired hungry calm proud nervous lonely bored excited worried cheerful sleepy grumpy
thirsty afraid jealous hopeful curious confused surprised annoyed ashamed relaxed content gloomy
anxious joyful grateful restless miserable furious merry brave shy embarrassed disappointed
homesick eager patient confident upset thoughtful dizzy moody exhausted delighted amused puzzled
peaceful frightened guilty weary playful serious stubborn lazy bitter careless cross dreamy envious
fearless glad helpless impatient irritable jolly mischievous optimistic
""".split()

# Jobs.
JOBS = """
baker teacher doctor farmer painter singer writer nurse driver cook tailor pilot sailor gardener
carpenter lawyer dentist barber butcher plumber waiter dancer actor poet judge soldier fisherman
miner clerk banker librarian musician photographer scientist chemist engineer architect builder
mechanic electrician blacksmith potter weaver shepherd hunter postman policeman firefighter
detective journalist editor printer translator secretary accountant cashier grocer florist jeweller
optician surgeon vet pharmacist midwife priest monk professor tutor coach athlete jockey boxer
referee juggler clown magician acrobat drummer violinist pianist composer conductor sculptor
designer cobbler hatter milliner locksmith clockmaker glazier roofer bricklayer welder porter
janitor cleaner butler maid gatekeeper guard diver astronaut astronomer geologist botanist
historian explorer surveyor forester beekeeper milkman brewer confectioner chef bartender innkeeper
merchant broker auctioneer mayor diplomat senator captain
""".split()

# Animals, also as pets.
ANIMALS = """
dog cat horse rabbit parrot hamster turtle goat duck pig hen mouse pony donkey sheep cow frog snake
lizard goose owl fox squirrel hedgehog canary goldfish pigeon rooster lamb kitten puppy calf ferret
raven crow swan peacock turkey spider beetle snail crab lobster salamander newt toad gecko iguana
chameleon tortoise rat gerbil chinchilla mole badger otter beaver weasel stoat mink raccoon skunk
monkey gorilla chimpanzee lemur sloth koala kangaroo wombat panda bear wolf lynx leopard tiger lion
cheetah puma jaguar zebra giraffe camel llama alpaca moose deer elk bison buffalo yak mule boar
antelope gazelle rhino hippo elephant seal walrus dolphin penguin pelican stork heron crane
flamingo ostrich emu eagle falcon hawk vulture magpie robin sparrow finch thrush blackbird starling
nightingale woodpecker kingfisher puffin octopus grasshopper butterfly dragonfly moth worm
""".split()

# Foods and drinks, none of them counted.
FOODS = """
bread cheese soup rice cake pasta pizza fish chicken salad honey butter chocolate jam toast
porridge pudding yoghurt bacon ham beef pork stew curry noodles sausages beans pancakes waffles
muffins cookies popcorn custard jelly toffee fudge caramel syrup marmalade ketchup mustard pepper
garlic spinach cabbage lettuce celery broccoli cauliflower asparagus leeks mushrooms lentils
chickpeas peas corn barley oats quinoa tofu salmon tuna trout cod herring mackerel sardines shrimp
oysters mussels squid veal venison mutton salami pate steak meatballs dumplings ravioli lasagne
spaghetti macaroni risotto paella sushi tacos burritos nachos hummus falafel couscous pickles
olives capers raisins dates figs apricots cranberries gooseberries raspberries blackberries
blueberries cherries grapes melon papaya mango kiwi pineapple coconut rhubarb ginger cinnamon
vanilla nutmeg saffron basil parsley thyme rosemary mint crackers pretzels bagels croissants
brioche scones crumpets gingerbread shortbread marzipan nougat meringue trifle sorbet gelato
cheesecake brownies doughnuts eclairs strudel goulash chowder gazpacho omelettes quiche souffle
kebab gravy lemonade cocoa tea coffee milk cider
""".split()

# Places that one can be in.
PLACES = """
kitchen garden park school house forest library barn shop attic cellar market bedroom office church
garage hall field station museum hotel castle bakery theatre bathroom village yard hospital tower
cave stable factory cafe restaurant harbour tent cabin meadow orchard playground classroom basement
hallway pantry cottage palace temple chapel monastery abbey cathedral mosque square alley street
lane courtyard mill brewery warehouse workshop studio gallery cinema stadium gym pool sauna laundry
nursery dormitory apartment mansion villa bungalow hut shed greenhouse cowshed henhouse kennel
dungeon prison courthouse bank tavern inn pub diner canteen pharmacy clinic laboratory observatory
planetarium aquarium zoo circus fairground arcade casino ballroom lobby lounge parlour corridor
elevator conservatory vineyard plantation pasture paddock valley canyon desert jungle swamp marsh
wilderness countryside suburb city capital province ravine gorge grotto tunnel mine quarry sawmill
foundry shipyard dockyard lighthouse boathouse airport hangar depot terminal subway carriage wagon
caravan bus train ferry submarine cockpit cupboard wardrobe closet vault archive bookshop
supermarket bazaar mall boutique salon bistro pizzeria teahouse university college academy
kindergarten auditorium gymnasium arena cemetery churchyard crypt catacomb fortress citadel
barracks headquarters embassy parliament ministry penthouse loft igloo wigwam ranch farmyard vestry
refectory scullery larder foyer vestibule
""".split()

# Things that one can carry.
OBJECTS = """
ball lamp book key box hat cup bag doll coat ring clock hammer chair bottle spoon knife basket
umbrella blanket pencil pen drum guitar kite mirror candle plate bowl brush comb rope bell toy coin
map picture letter shoe scarf glove jacket shirt dress sock belt boot cap pillow towel bucket broom
shovel rake saw axe ladder nail screw wrench needle button ribbon purse wallet suitcase backpack
trunk chest crate barrel jar vase pot pan kettle teapot mug fork ladle tray napkin tablecloth
carpet rug curtain cushion mattress quilt stool bench table desk shelf drawer radio phone camera
computer keyboard tablet television telescope microscope compass ruler calculator notebook diary
magazine newspaper postcard envelope stamp sticker poster photograph frame statue sculpture mask
puppet puzzle chessboard marionette balloon whistle trumpet flute violin piano cello harp banjo
ukulele accordion harmonica tambourine xylophone trombone saxophone clarinet oboe bugle gong cymbal
necklace bracelet earring brooch crown tiara watch pendant locket medal trophy badge flag banner
sword shield spear arrow dagger helmet lantern torch flashlight lighter match ashtray pipe cane
crutch wheelchair bicycle scooter skateboard sled sleigh ski skate surfboard paddle oar anchor net
hook lure canoe raft wheel tyre pump engine battery cable plug switch socket bulb fan heater
toaster blender mixer oven fridge stove grill scale thermometer barometer hourglass sundial
calendar scroll quill inkwell eraser sharpener stapler chisel drill screwdriver spanner crowbar
anvil bolt hinge padlock chain spring magnet lens prism crystal gem diamond ruby emerald sapphire
pearl opal fossil shell feather pebble log branch stick twig acorn seed flower rose tulip daisy
wreath bouquet cactus fern leaf bean hose sprinkler wheelbarrow pitchfork sickle scythe hoe trowel
flowerpot beehive birdcage leash collar saddle bridle horseshoe whip muzzle fishbowl sponge mop
razor toothbrush handkerchief bandage syringe stethoscope pill monocle apron vest sweater cardigan
hoodie skirt blouse gown robe kimono cape cloak poncho shawl veil bonnet beret turban sombrero
sandal slipper sneaker stocking mitten tie zipper buckle hanger loom spindle bobbin thimble
pincushion hamper cradle pram rattle bib stroller teddy rocket robot dollhouse yoyo frisbee racket
bat puck dart javelin discus dumbbell hammock trampoline swing tentpole lunchbox thermos flask
goblet chalice tankard pitcher jug decanter corkscrew strainer colander grater peeler whisk spatula
skillet cauldron wok saucer teaspoon chopstick toothpick megaphone microphone speaker headset
typewriter telegraph projector tripod easel palette canvas crayon stencil globe atlas dictionary
almanac cookbook songbook album scrapbook ticket passport voucher receipt cheque contract
certificate diploma parcel package sack pouch satchel briefcase casket urn amulet talisman wand
potion
""".split()

# Things that are counted; without the last letter they are singular.
ITEMS = """
apples coins marbles eggs pears stamps books oranges lemons stones nuts shells plums buttons sweets
bananas tickets pencils flowers roses feathers beads candles buns carrots onions turnips cards
balloons acorns stickers pebbles biscuits pies tarts walnuts almonds chestnuts pumpkins melons
bricks nails ribbons badges postcards tulips pearls jewels tokens crayons kites seeds bulbs twigs
pinecones chairs plates spoons cups bottles baskets ropes hats bells drums toys maps rings keys
lamps pens
""".split()

# What people enjoy.
HOBBIES = """
fishing painting swimming reading dancing singing cooking running skating chess skiing sailing
cycling gardening knitting drawing climbing hiking riding rowing boxing fencing wrestling juggling
camping hunting surfing diving sewing weaving pottery yoga tennis football golf cricket rugby
hockey basketball volleyball badminton archery bowling poker astronomy poetry jogging whistling
travelling shopping baking writing sculpting embroidery origami photography geography history
algebra geometry grammar karate judo gymnastics parachuting kayaking snorkelling
""".split()

# Of days.
WEATHER = """
sunny rainy windy cloudy cold warm hot snowy foggy misty stormy icy frosty chilly mild breezy grey
humid damp freezing sultry drizzly hazy bleak balmy scorching crisp dim quiet silent busy noisy
wonderful terrible beautiful pleasant dreary gorgeous glorious dismal perfect awful memorable
fateful festive hectic lucky unlucky ordinary special
""".split()

# Parts of the day and days.
TIMES = """
morning evening afternoon night day Monday Tuesday Wednesday Thursday Friday Saturday Sunday noon
dawn midnight weekend holiday
""".split()

# Months and seasons.
MONTHS = """
May June April March summer winter spring autumn July August September October November December
January February
""".split()

# How somebody speaks or does things.
ADVERBS = """
quickly slowly quietly softly happily loudly gently politely kindly calmly suddenly carefully
proudly sadly angrily eagerly patiently nervously cheerfully gladly warmly coldly boldly bravely
briefly brightly briskly casually cautiously clearly cleverly crossly curiously earnestly faintly
firmly fondly frankly freely gracefully gravely greedily grimly gruffly hastily heartily helpfully
hoarsely honestly hopefully hungrily innocently jokingly joyfully keenly lazily lightly meekly
merrily mildly modestly neatly nicely openly playfully plainly promptly rapidly readily sharply
shyly sleepily slyly smoothly solemnly steadily sternly stiffly sweetly swiftly tenderly
thoughtfully timidly tiredly truthfully urgently warily wearily wildly wisely yawningly
""".split()

# Who else may speak.
FRIENDS = """
child neighbour visitor stranger guest uncle aunt grandmother grandfather cousin friend brother
sister girl boy woman man mother father passenger tourist customer twin nephew niece pupil student
lady gentleman traveller roommate landlord tenant widow bystander onlooker
""".split()

# What birds, bells and the wind do.
SOUNDS = """
sang called cried moaned barked shouted howled whispered hummed rattled creaked groaned chirped
wailed roared rumbled murmured sighed screeched squeaked
""".split()

# What is seen outside.
SCENERY = """
wind river sun moon sky rain snow lake sea hill mountain tree grass road bridge fog ice sand beach
wave cloud storm thunder lightning sunset sunrise rainbow breeze stream waterfall cliff island
shore horizon hedge gate fence roof chimney window door wall path pond well fountain brook glacier
dune reef bay
""".split()

# Of what is seen and heard outside.
FILLER = """
gentle dark deep distant wild lonesome tall steep ancient vast faint mighty lively sleeping frozen
shallow misshapen golden silvery murky gloomy serene tranquil majestic rugged barren lush fertile
leafy mossy rocky sandy grassy sunlit moonlit shadowy endless nearby faraway hidden restless
mysterious enchanted familiar unknown invisible graceful clumsy noble humble friendly clever
foolish wise greedy honest loyal gallant timid fierce tame hoarse shrill mellow harsh tuneful
rhythmic steady sudden constant abrupt lingering fleeting
""".split()

# Of what can be smelled.
TASTES = """
scented spicy salty sour tangy savoury juicy ripe fresh stale smoky toasted steaming creamy crunchy
crispy
""".split()

# Numbers from zero on.
NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
           "fifteen sixteen seventeen eighteen nineteen twenty").split()

# In all templates {k} is the key of a fact (a person or a thing), {v} its value (a trait, a
# place, a person, a number) and {items} what is counted; "a" becomes "an" at the end.
#
# A relation is what a kind of fact is told and asked with.
#   kind, inverse_kind: of the question for the value and of that for the key ("" for none)
#   predicates: what follows the name of a person at the start; ask, inverse: the two questions
#   tell: answers in full, lower-case; short, inverse_short: answers with only the word {x}
Relation = collections.namedtuple(
    "Relation", "kind inverse_kind predicates ask inverse tell short inverse_short")
IT_IS = ("it is {x}", "I think it is {x}", "it must be {x}")
IT_IS_THE = ("it is the {x}", "I think it is the {x}", "it must be the {x}")
IN_THE = ("in the {x}", "it must be in the {x}", "look in the {x}", "I think in the {x}")

TRAITS = {
    "job": Relation(
        "recall", "who",
        ("was a {v}", "worked as a {v}", "had work as a {v}", "was known as a {v}",
         "earned money as a {v}", "had long been a {v}", "had just become a {v}",
         "hoped to remain a {v}"),
        ("What work does {k} do?", "What does {k} work as?", "Which job does {k} have?"),
        ("Who is the {v}?", "Who works as a {v}?", "Who has work as a {v}?"),
        ("{k} is a {v}", "{k} works as a {v}"), ("as {x}", "I think as {x}"), IT_IS),
    "town": Relation(
        "recall", "who",
        ("lived in {v}", "came from {v}", "was born in {v}", "had a house in {v}", "grew up in {v}",
         "had a home in {v}", "was at home in {v}", "was from {v}"),
        ("Which town is {k} from?", "Which town is the home of {k}?", "What is the home of {k}?"),
        ("Who is from {v}?", "Who comes from {v}?", "Who has a home in {v}?"),
        ("{k} is from {v}", "{k} has a home in {v}", "{k} comes from {v}"), IT_IS, IT_IS),
    "pet": Relation(
        "recall", "who",
        ("had a pet {v}", "kept a pet {v}", "owned a pet {v}", "loved a pet {v}", "fed a pet {v}",
         "talked of a pet {v}", "cared for a pet {v}", "was proud of a pet {v}"),
        ("Which pet does {k} have?", "What animal is the pet of {k}?", "What pet does {k} keep?"),
        ("Who has a pet {v}?", "Who keeps the {v}?", "Who has the pet {v}?"),
        ("{k} has a pet {v}", "{k} keeps a pet {v}"), ("a pet {x}", "I think a {x}"), IT_IS),
    "hair": Relation(
        "recall", "who",
        ("had {v} hair", "had very {v} hair", "was known for {v} hair",
         "was a person with {v} hair", "was proud of {v} hair", "was born with {v} hair",
         "still had {v} hair", "always had {v} hair"),
        ("What hair does {k} have?", "Which hair does {k} have?", "How is the hair of {k}?"),
        ("Who has {v} hair?", "Who is the one with {v} hair?", "Who is proud of {v} hair?"),
        ("{k} has {v} hair", "the hair of {k} is {v}"), IT_IS, IT_IS),
    "mood": Relation(
        "recall", "who",
        ("was {v}", "felt {v}", "was very {v}", "felt rather {v}", "seemed {v}", "looked {v}",
         "was a little {v}", "felt quite {v}"),
        ("How does {k} feel?", "What is the mood of {k}?", "How is {k} today?"),
        ("Who feels {v}?", "Who is {v}?", "Who is {v} today?"),
        ("{k} is {v}", "{k} feels {v}"), ("very {x}", "rather {x}", "quite {x}"), IT_IS),
    "food": Relation(
        "recall", "who",
        ("liked {v}", "loved {v}", "was fond of {v}", "wanted some {v}", "dreamed of {v}",
         "longed for {v}", "always asked for {v}", "never refused {v}"),
        ("What does {k} like?", "Which food does {k} like?", "What is the best food for {k}?"),
        ("Who likes {v}?", "Who is fond of {v}?", "Who asks for {v}?"),
        ("{k} likes {v}", "{k} is fond of {v}"), ("some {x}", "I think some {x}"), IT_IS),
    "hobby": Relation(
        "recall", "who",
        ("enjoyed {v}", "was good at {v}", "spent hours on {v}", "practised {v}", "lived for {v}",
         "had fun with {v}", "was mad about {v}", "thought only of {v}"),
        ("What does {k} enjoy?", "Which hobby does {k} have?", "What is {k} good at?"),
        ("Who enjoys {v}?", "Who is good at {v}?", "Who has the hobby of {v}?"),
        ("{k} enjoys {v}", "{k} is good at {v}"), IT_IS, IT_IS),
}
TRAIT_WORDS = {"job": JOBS, "town": TOWNS, "pet": ANIMALS, "hair": HAIR,
               "mood": MOODS, "food": FOODS, "hobby": HOBBIES}

# What things are like; their predicates are empty, since {thing} below tells the value.
LOOK = Relation("recall", "recall", (), ("How does the {k} look?", "What is the {k} like?"),
                ("Which thing is {v}?", "Which of the things is {v}?"),
                ("the {k} is {v}", "the {k} looks {v}"), IT_IS, IT_IS_THE)
ASPECTS = {
    "colour": LOOK._replace(ask=("What colour is the {k}?", "Which colour does the {k} have?",
                                 "What is the colour of the {k}?")),
    "look": LOOK,
    "size": LOOK._replace(ask=("What size is the {k}?", "How big is the {k}?",
                               "What is the size of the {k}?"), tell=("the {k} is {v}",)),
    "material": Relation(
        "recall", "recall", (), ("What is the {k} made of?", "Of what is the {k}?"),
        ("Which thing is made of {v}?", "What is made of {v}?"),
        ("the {k} is made of {v}", "the {k} is of {v}"), ("of {x}", "I think of {x}"), IT_IS_THE),
}
ASPECT_WORDS = {"colour": COLOURS, "look": LOOKS, "size": SIZES, "material": MATERIALS}
# An aspect that stands here more than once is chosen more often.
ASPECT_CHOICES = ("colour", "colour", "colour", "look", "look", "material", "size")
THING = {"material": "{k} made of {v}"}  # else "{v} {k}"

RELATIONS = dict(TRAITS, **ASPECTS)
# Here the thing is the key and the person the value, since things change hands.
RELATIONS["owner"] = Relation(
    "who", "recall",
    ("had {thing}", "carried {thing}", "owned {thing}", "held {thing}", "brought {thing}",
     "showed {thing}", "came with {thing}", "arrived with {thing}"),
    ("Who has the {k}?", "Who now has the {k}?", "Who holds the {k}?", "Who carries the {k}?"),
    ("Which thing does {v} have?", "What thing does {v} have?", "What does {v} carry?"),
    ("{v} has the {k}", "the {k} is with {v}", "you can find the {k} with {v}"),
    IT_IS, IT_IS_THE)
RELATIONS["place"] = Relation(
    "where", "who",
    ("was in the {v}", "sat in the {v}", "stood in the {v}", "waited in the {v}",
     "stayed in the {v}", "rested in the {v}", "was busy in the {v}", "slept in the {v}"),
    ("Where is {k}?", "Where can you find {k}?", "In which place is {k}?"),
    ("Who is in the {v}?", "Who is in the {v} now?", "Who stays in the {v}?"),
    ("{k} is in the {v}", "{k} is now in the {v}", "you can find {k} in the {v}"), IN_THE, IT_IS)
RELATIONS["storage"] = Relation(
    "where", "recall",
    ("kept {thing} in the {v}", "left {thing} in the {v}", "had {thing} in the {v}",
     "hid {thing} in the {v}", "stored {thing} in the {v}", "put {thing} in the {v}",
     "laid {thing} in the {v}", "found {thing} in the {v}"),
    ("Where is the {k}?", "Where can you find the {k}?", "In which place is the {k}?"),
    ("What is in the {v}?", "Which thing is in the {v}?", "What is now in the {v}?"),
    ("the {k} is in the {v}", "the {k} is now in the {v}", "you can find the {k} in the {v}"),
    IN_THE, IT_IS_THE)
RELATIONS["count"] = Relation(
    "count", "",
    ("had {v} {items}", "owned {v} {items}", "held {v} {items}", "carried {v} {items}",
     "brought {v} {items}", "came with {v} {items}", "had bought {v} {items}",
     "had saved {v} {items}"),
    ("How many {all_items} has {k}?", "How many {all_items} does {k} have?",
     "How many {all_items} are with {k}?"), (),
    ("{k} has {v} {items}", "{k} now has {v} {items}"), ("exactly {x}", "I think {x}"), ())

# Events: {g} gives, {r} receives, {p} acts, {k} is the thing, {v} the place, {d} a number.
HAND_OVERS = ("{g} gave the {k} to {r}", "{g} handed the {k} to {r}", "{g} passed the {k} to {r}",
              "{g} sold the {k} to {r}", "{g} offered the {k} to {r}, who took it",
              "{r} got the {k} from {g}", "{r} took the {k} from {g}",
              "{r} bought the {k} from {g}", "{g} let go of the {k} and gave it to {r}")
MOVES = ("{p} went to the {v}", "{p} walked to the {v}", "{p} ran to the {v}",
         "{p} moved to the {v}", "{p} hurried to the {v}", "{p} rushed to the {v}",
         "{p} left for the {v}", "{p} strolled over to the {v}", "{p} travelled to the {v}")
REMOVALS = ("{p} took the {k} to the {v}", "{p} carried the {k} to the {v}",
            "{p} brought the {k} to the {v}", "{p} moved the {k} to the {v}",
            "{p} put the {k} in the {v}", "{p} hid the {k} in the {v}",
            "{p} left the {k} in the {v}", "{p} stored the {k} in the {v}")
GAINS = ("{p} found {d} more {items}", "{p} bought {d} more {items}", "{p} won {d} more {items}",
         "{p} got {d} more {items}", "{p} was given {d} more {items}",
         "{p} collected {d} more {items}", "{p} borrowed {d} more {items}",
         "{p} received {d} more {items}")
LOSSES = ("{p} lost {d} {items}", "{p} gave away {d} {items}", "{p} sold {d} {items}",
          "{p} dropped and lost {d} {items}", "{p} threw away {d} {items}",
          "{p} used up {d} {items}", "{p} had to give back {d} {items}",
          "{p} lent {d} {items} to a {friend}")
SHARES = ("{g} gave {d} {items} to {r}", "{g} handed {d} {items} to {r}",
          "{g} sold {d} {items} to {r}", "{g} passed {d} {items} to {r}",
          "{r} got {d} {items} from {g}", "{r} took {d} {items} from {g}",
          "{r} bought {d} {items} from {g}", "{r} won {d} {items} from {g}")
COUNT_CHANGES = {"gain": GAINS, "loss": LOSSES, "share": SHARES}
CONNECTIVES = ("Later", "Then", "After a while", "Soon", "At noon", "A moment later", "In the end",
               "After lunch", "Before long", "An hour later", "Not long after that", "That evening",
               "After that", "Next", "Suddenly", "Without a word")

# Lines begin with these words only, and quotations mostly with such words: a word at the start of a
# line is another token than the same word after a space.
OPENINGS = ("One {weather} {time}, ", "On a {weather} {time} in {month}, ",
            "It was a {weather} {time}. ", "Here is a story from {month}. ", "Once upon a time, ",
            "Long ago, ", "There was a {weather} {time} in {month}. ",
            "At the end of a {weather} {time}, ", "During a {weather} {time}, ",
            "This happened in {month}. ", "In {month}, ", "Many years ago, ",
            "Not far from the {scene}, ", "It happened on a {weather} {time}. ")
INTROS = (  # of two predicates
    "{p} {one} and {two}. ", "{p} {one}. {p} also {two}. ", "{p} {one}, and {p} {two}. ",
    "{p} {one} but also {two}. ")
SINGLE_INTROS = ("{p} {one}. ", "{p} {one}, as always. ", "As for {p}, {p} {one}. ",
                 "And {p} {one}. ", "Meanwhile {p} {one}. ", "{p} {one} too. ",
                 "Nearby, {p} {one}. ", "Also, {p} {one}. ")
DIALOGUES = ('"{ask}" asked {s}. "{tell}," said {t}. ',
             '"{ask}" asked {s} {adv}. "{tell}," said {t}. ',
             'Then {s} asked {adv}, "{ask}" The answer was, "{tell}." ',
             '"{ask}" {s} wanted to know. "{tell}," said {t} {adv}. ',
             '{s} asked {t}, "{ask}" And {t} said {adv}, "{tell}." ',
             '"{ask}" said {s} to {t}. "{tell}," was the answer. ',
             '"{ask}" {s} asked. "{tell}," {t} answered {adv}. ',
             'Soon somebody asked, "{ask}" Of course, {tell_low}. ')
RESTATEMENTS = ('"Remember that {tell_low}," said {s} {adv}. ', '"Yes, {tell_low}," said {s}. ',
                '{s} said {adv}, "Now {tell_low}." ', 'Everybody could see it: {tell_low}. ',
                '"Of course, {tell_low}," said {s}. ', '"I know that {tell_low}," said {s} {adv}. ')
FILLERS = ("Outside, the {scene} was {filler}. ", "Somewhere a {filler} {animal} {sound}. ",
           "The {filler} {scene} could be seen. ", "It smelled of {taste} {food}. ",
           "The {scene} {sound} {adv}. ", "Far away, a {animal} {sound} {adv}. ",
           "It had been {weather} for days. ", "Nobody looked at the {filler} {scene}. ",
           "There was {taste} {food} for everybody. ", "A {friend} waved {adv}. ")
